"""Runs one command and makes sure it does not outlive the process that asked for it.

    python guard.py --grace 5 [--remove DIRECTORY] -- command ...

The asking process holds a pipe to the guard's standard input and never writes to it. When that
process ends, in whatever way, SIGKILL included, the pipe ends too: the guard sends SIGTERM to the
command, SIGKILL after `--grace` seconds, and removes the directory. The first line of the guard's
standard output is the command's process id; all that the command writes goes to the guard's
standard error. The guard's exit code is the command's, or 128 + the signal that ended it, as in a
shell.

The guard has a session of its own and the command a process group of its own, so that Ctrl-C
reaches neither: the asking process decides who stops when. What the command leaves behind in its
group is killed. Only the standard library is used, and the file is run by its path, so that the
guard is small and works from any directory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

NOT_RUN = 127
"""The exit code for a command that could not be started; as in a shell."""


def run(command: Sequence[str], *, grace: float, remove: str | None) -> int:
    """Run `command` until it ends or must end, and return its exit code as a shell gives it."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            process_group=0,
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        return NOT_RUN
    signal.signal(signal.SIGTERM, lambda *_: _in_background(_end, child.pid, grace))
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    abandoned = threading.Event()
    _in_background(_watch, child.pid, grace, abandoned)
    code = child.wait()
    _kill_group(child.pid)
    if remove and abandoned.is_set():
        shutil.rmtree(remove, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _in_background(action: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=action, args=arguments, daemon=True).start()


def _watch(pid: int, grace: float, abandoned: threading.Event) -> None:
    """Wait until the asking process is gone, then end the command."""
    os.read(sys.stdin.fileno(), 1)
    abandoned.set()
    _end(pid, grace)


def _end(pid: int, grace: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    time.sleep(grace)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    # macOS answers "not permitted" for a group whose only member is a zombie.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main() -> int:
    """Read the command line and run the command."""
    parser = argparse.ArgumentParser(
        description="Runs a command that ends with the process that asked for it."
    )
    parser.add_argument(
        "--grace", type=float, default=5.0, help="seconds between SIGTERM and SIGKILL"
    )
    parser.add_argument("--remove", help="a directory to remove once the asking process is gone")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    return run(arguments.command, grace=arguments.grace, remove=arguments.remove)


if __name__ == "__main__":
    sys.exit(main())
