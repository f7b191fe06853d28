"""A replica set of several genuine mongods, to see what the ledger does while one of them is lost.

There is no stand-in for it: without a mongod that runs here, `start()` raises `NoServer`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from app.testbed.embedded.mongod import (
    REPLICA_SET,
    Credentials,
    Mongod,
    find_mongod,
    find_primary,
    initiate,
    say_hello,
    wait_for_primary,
)
from app.testbed.embedded.process import NotStarted
from app.testbed.embedded.server import HOST, START_SECONDS, Server
from app.testbed.embedded.servers import DATABASE


class Member(Server):
    """One mongod of a set. `kill()` and `shut_down()` keep its data for `restart()`."""

    name = "mongo"

    def __init__(
        self,
        directory: Path | None,
        mongod: Mongod,
        credentials: Credentials | None,
        *,
        in_set: bool = True,
        test_commands: bool = False,
    ) -> None:
        """As `Mongod.command` takes them; without `credentials` it asks for no login."""
        super().__init__(directory)
        self._mongod = mongod
        self._credentials = credentials
        self._in_set = in_set
        self._test_commands = test_commands

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of this member alone, for its administrator; one that is no primary can be read
        with it.
        """
        if self._credentials is None:
            return f"mongodb://{self.address}/{DATABASE}?directConnection=true"
        return self._credentials.alone_url(self.port, DATABASE)

    def command(self, data: Path) -> Sequence[str]:
        """`mongod` as a member of the set, or alone."""
        keyfile = (
            self._credentials.write_key(data.parent / "keyfile") if self._credentials else None
        )
        return self._mongod.command(
            data, self.port, keyfile, in_set=self._in_set, test_commands=self._test_commands
        )

    def ping(self) -> bool:
        """Whether it answers `hello` within a second."""
        return say_hello(self.port) is not None

    @property
    def is_primary(self) -> bool:
        """Whether it says that it takes writes. One that is cut off may go on saying so until it
        notices.
        """
        return find_primary([self.port]) is not None

    def shut_down(self) -> None:
        """End it in an orderly way (SIGTERM): a primary steps down first."""
        self.process.stop(timeout=START_SECONDS)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its sockets stay open and nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self.process.signal(signal.SIGCONT)


class EmbeddedReplicaSet:
    """Three members, with a key and a login unless told otherwise; a context manager.

    Takes the directory for data and logs, without which each member has a temporary one; the number
    of members; and `election_seconds`, how long they miss their primary before they elect another
    (MongoDB's own default is 10). `test_commands`: they fail on command.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        members: int = 3,
        election_seconds: float = 2.0,
        login: bool = True,
        test_commands: bool = False,
    ) -> None:
        self._directory = directory
        self._count = members
        self._election_seconds = election_seconds
        self._credentials = Credentials() if login else None
        self._test_commands = test_commands
        self.members: list[Member] = []

    @property
    def ports(self) -> list[int]:
        """Those of the members, in their order."""
        return [member.port for member in self.members]

    @property
    def url(self) -> str:
        """The URL of the database `celery_logs`, with all members, for a user that may read and
        write.
        """
        return self._url(self._credentials.ledger_url if self._credentials else None)

    @property
    def admin_url(self) -> str:
        """As `url`, for the administrator."""
        return self._url(self._credentials.root_url if self._credentials else None)

    def _url(self, with_login: Callable[[Sequence[int], str], str] | None) -> str:
        if with_login:
            return with_login(self.ports, DATABASE)
        hosts = ",".join(f"{HOST}:{port}" for port in self.ports)
        return f"mongodb://{hosts}/{DATABASE}?replicaSet={REPLICA_SET}"

    def start(self) -> Self:
        """Start all members, and return once one is the primary. Raises `NotStarted`, of which
        `NoServer` is one.
        """
        mongod = find_mongod()
        places = [
            self._directory / f"mongo{number}" if self._directory else None
            for number in range(self._count)
        ]
        self.members = [
            Member(place, mongod, self._credentials, test_commands=self._test_commands)
            for place in places
        ]
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Member.start, self.members))
            initiate(self.ports, self._credentials, election_seconds=self._election_seconds)
        except BaseException:
            self.stop()
            raise
        return self

    def primary(self, timeout: float = START_SECONDS) -> Member:
        """The primary, once there is one. Raises `NotStarted` after `timeout` seconds."""
        port = wait_for_primary(self.ports, timeout)
        return next(member for member in self.members if member.port == port)

    def secondaries(self) -> list[Member]:
        """Those that answer and are no primary."""
        found = [(member, say_hello(member.port)) for member in self.members]
        return [member for member, answer in found if answer and answer.get("secondary")]

    def stop(self) -> None:
        """End all members at once, frozen ones too, and remove their temporary directories."""
        for member in self.members:
            member.stop()

    def __enter__(self) -> Self:
        if self.members:
            raise NotStarted("mongo: this replica set has been started already")
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
