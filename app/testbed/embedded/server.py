"""What the embedded servers have in common: a port, a temporary directory, and a life under a
guard.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from app.testbed.embedded.process import NotStarted, Process

HOST = "127.0.0.1"
START_SECONDS = 30.0
"""How long a server may take to answer its first ping."""
PORT_TRIES = 3
"""Ports tried when another program takes one between the search for it and its use."""
ROOM_BYTES = 4 << 30
"""Free memory under which temporary data go to the disk; Docker gives a container 64 MB of it."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - the directory is made by mkdtemp
_PORTS = range(15_000, 32_000)


class NoServer(NotStarted):
    """No program that could be the server is installed."""


class EndedEarly(NotStarted):
    """The server ended before it answered."""


class Server(ABC):
    """One server on 127.0.0.1. Its data live from `start()` to `stop()`; `kill()` and `restart()`
    keep them.

    Takes the directory for data and log, which is made where it does not exist and stays; without
    one, a temporary directory that goes with the server, in memory where there is room. `scratch`
    is a directory that is removed if the process that started the server dies; its own temporary
    one is in any case.
    """

    name: ClassVar[str]

    def __init__(self, directory: Path | None = None, *, scratch: Path | None = None) -> None:
        self.port = 0
        self._scratch = scratch
        self._own = directory is None
        self._wanted = directory
        self._directory: Path | None = None
        self._process: Process | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect to; the same before and after a restart."""

    @abstractmethod
    def command(self, data: Path) -> Sequence[str]:
        """The command that serves `data` on `self.port`. Raises `NoServer`."""

    @abstractmethod
    def ping(self) -> bool:
        """Whether the server answers a request of its own protocol now."""

    @property
    def process(self) -> Process:
        """The server's process, for signals. Raises `NotStarted` before the first start."""
        if self._process is None:
            raise NotStarted(f"{self.name}: has not been started")
        return self._process

    @property
    def directory(self) -> Path:
        """Where the data and the log `server.log` are. Raises `NotStarted` unless started."""
        if self._directory is None:
            raise NotStarted(f"{self.name}: has not been started")
        return self._directory

    def start(self) -> Self:
        """Start on a free port, and return once it answers. Raises `NotStarted`."""
        if self._directory is not None:
            raise NotStarted(
                f"{self.name}: has been started already; restart() brings it back with its data"
            )
        self._directory = self._wanted or temporary_directory(f"rowrelay-{self.name}-")
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_on_a_free_port(self) -> None:
        for _ in range(PORT_TRIES - 1):
            self.port = free_port()
            with contextlib.suppress(EndedEarly):
                self._run()
                return
        self.port = free_port()
        self._run()

    def _run(self) -> None:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._process = Process(
            self.name,
            self.command(data),
            log=self.directory / "server.log",
            cwd=data,
            scratch=self.directory if self._own else self._scratch,
        ).start()
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            answered = self.ping()
            if not self.process.alive:
                self.process.stop()
                raise EndedEarly(self.process.failure())
            if answered:
                return
            if time.monotonic() > deadline:
                raise NotStarted(f"no answer in {START_SECONDS:g} s: {self.process.failure()}")
            time.sleep(0.02)

    def restart(self) -> None:
        """Stop the server if it runs, and start it again on the same port with the same data.
        Raises `NotStarted`.
        """
        self.process.stop()
        self._run()

    def kill(self) -> None:
        """Send the server SIGKILL, and wait until it is gone. Its data stay for `restart()`."""
        self.process.kill()

    def stop(self) -> None:
        """End the server at once, and remove its temporary directory. Does nothing when it has been
        stopped already.

        It ends by SIGKILL: nothing that it does in an orderly end is needed, and that takes a
        mongod 0.5 to 1 s.
        """
        try:
            if self._process is not None:
                self._process.kill()
        finally:
            if self._own and self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        return self if self._directory is not None else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def temporary_directory(prefix: str) -> Path:
    """A new directory for data that nobody keeps: in memory where Linux has room for it, else where
    others are.

    What a killed server had written is there as on a disk; only the machine must stay up. A mongod
    makes an index there in half the time.
    """
    with contextlib.suppress(OSError):
        if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > ROOM_BYTES:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY))
    return Path(tempfile.mkdtemp(prefix=prefix))


def listens(port: int) -> bool:
    """Whether something on 127.0.0.1 accepts connections on this port. Quicker than to ask a
    client, which waits.
    """
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def packaged(package: str, program: str) -> str | None:
    """The path of a program in a package's wheel. The wheel's list of files is the one public place
    that names it.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == program), None)


GIVEN = 20
_given: deque[int] = deque(maxlen=GIVEN)
"""The ports that were given last."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on.

    It lies below the range that systems give to outgoing connections: there, a client that keeps
    connecting to a server which is down can be given the server's own port, and then talks to
    itself and keeps the server from coming back. None is given twice within `GIVEN` calls: servers
    that start side by side have not bound theirs yet.
    """
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        _given.append(port)
        return port
