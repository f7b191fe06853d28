"""A process that never outlives its parent: servers, workers, beat and the simulator in the demo
and the tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core.errors import RowrelayError
from app.testbed.embedded import guard

LOG_LINES = 15
"""Lines of a process's log shown with an error."""


class NotStarted(RowrelayError):
    """A process of the demo or the tests did not come up: no program, an early exit, or no answer
    in time.
    """


class Process:
    """One process behind a guard (see `app.testbed.embedded.guard`), with its output in a log file.

    Takes a name for messages; the command; its whole environment (the parent's when `None`); its
    working directory; the log file, which is appended to; `grace`, the seconds from SIGTERM to
    SIGKILL if the parent dies; and `scratch`, a directory that the guard removes in that case.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace: float = 5.0,
        scratch: Path | None = None,
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log = log
        self._env = env
        self._cwd = cwd
        self._options = ["--grace", str(grace), *(["--remove", str(scratch)] if scratch else [])]
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    def start(self) -> Self:
        """Start the process and return at once. Raises `NotStarted` if its program cannot be run."""
        if self.alive:
            raise NotStarted(f"{self.name}: runs already, as process {self.pid}")
        command = [sys.executable, "-I", "-S", guard.__file__, *self._options, "--", *self.argv]
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        self._pid = self._read_pid(self._guard)
        return self

    def _read_pid(self, guarding: subprocess.Popen[bytes]) -> int:
        assert guarding.stdout is not None  # noqa: S101 - a pipe was asked for
        with guarding.stdout as answer:
            line = answer.readline()
        if not line:
            self._finish()
            raise NotStarted(self.failure())
        return int(line)

    @property
    def pid(self) -> int:
        """The process id of the command itself, not of its guard. Raises `NotStarted` before the
        first start.
        """
        if self._pid is None:
            raise NotStarted(f"{self.name}: has not been started")
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether the process runs; a stopped one (SIGSTOP) does."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, 128 + the signal for a process ended by one, or `None` while it runs."""
        return self._guard.poll() if self._guard else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its children. Does nothing when it has ended."""
        if self.alive:
            _send(os.kill, self.pid, number)

    def stop(self, timeout: float = 10.0) -> int | None:
        """Send SIGTERM, wait up to `timeout` seconds, then kill what is left. Returns the exit
        code.
        """
        self.signal(signal.SIGTERM)
        if self._guard is not None:
            try:
                self._guard.wait(timeout)
            except subprocess.TimeoutExpired:
                _send(os.killpg, self.pid, signal.SIGKILL)
        return self._finish()

    def kill(self) -> int | None:
        """Send SIGKILL to the process and its children, and wait until they are gone. Returns the
        exit code.
        """
        if self.alive:
            _send(os.killpg, self.pid, signal.SIGKILL)
        return self._finish()

    def wait(self, timeout: float) -> int:
        """Wait for the process to end by itself. Returns its exit code; raises `NotStarted` or
        `TimeoutError`.
        """
        if self._guard is None:
            raise NotStarted(f"{self.name}: has not been started")
        try:
            return self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name}: still runs after {timeout:g} s\n{self.tail()}"
            ) from None

    def _finish(self) -> int | None:
        """Wait for the guard and let go of it."""
        if self._guard is None:
            return None
        code = self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        return code

    def tail(self, lines: int = LOG_LINES) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(
            self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        )

    def failure(self) -> str:
        """What to tell when the process ended early: its exit code and the last lines of its log."""
        ended = "still runs" if self.alive else f"ended with exit code {self.returncode}"
        return f"{self.name}: {ended}; its log ends with:\n{self.tail() or '(nothing)'}"

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _send(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    # The process may have ended a moment ago; macOS says "not permitted" for a group that is only a
    # zombie.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(target, number)
