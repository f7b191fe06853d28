"""A replica set of three, as `app.testbed.embedded.replica_set` starts it, with what faults of an
election need of it.

Started with `linked`, the members and their clients reach each other through `tests.chaos.links`,
which can be cut. With `own_disks`, each member's data are on a file system of their own, small
enough to be filled (root alone can).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pymongo
from pymongo.errors import OperationFailure

from app.testbed.embedded.mongod import find_mongod, say_hello
from app.testbed.embedded.replica_set import EmbeddedReplicaSet, Member
from app.testbed.embedded.server import NoServer
from tests.chaos.links import Links
from tests.support.wait import wait_until

Client = pymongo.MongoClient[dict[str, Any]]

COUNT = 3
DISK_BYTES = 1 << 29
PATIENCE_SECONDS = 90.0
"""How long an election, or the return of a member, may take: ten seconds each on an idle machine.
"""


def why_not() -> str | None:
    """Why no set can run here; `None` where it can."""
    try:
        find_mongod()
    except NoServer as error:
        return str(error)
    return None


def why_no_disk() -> str | None:
    """Why no set with file systems of its own can run here; `None` where it can."""
    return why_not() or (
        None if os.geteuid() == 0 and shutil.which("mount") else "to mount a small disk takes root"
    )


class ChaosSet(EmbeddedReplicaSet):
    """A set of three that elects as slowly as MongoDB does by default."""

    def __init__(self, directory: Path, *, linked: bool = False, own_disks: bool = False) -> None:
        super().__init__(directory, members=COUNT)
        self._links: Links[Member] | None = (
            Links(lambda member: member.process.pid) if linked else None
        )
        self._disks = [directory / f"mongo{number}" for number in range(COUNT)] if own_disks else []
        self._until_end = ExitStack()

    @property
    def links(self) -> Links[Member]:
        """The network, of a set that is linked."""
        assert self._links is not None, "this set has no links to cut"
        return self._links

    @property
    def ports(self) -> list[int]:
        """Where the members and the clients find each member: itself, or the link to it."""
        if self._links is None:
            return super().ports
        return [self._links.open_to(member, member.port) for member in self.members]

    def start(self) -> Self:
        """Start all members, and return once all have joined."""
        try:
            for disk in self._disks:
                self._until_end.enter_context(_mounted(disk))
            if self._links is not None:
                self._until_end.enter_context(self._links.running())
            super().start()
            self._elect_slowly()
            self.wait_for_all()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all members, and what was made for them."""
        super().stop()
        self._until_end.close()

    def _elect_slowly(self) -> None:
        """Give the set the settings that it would have without any, once it has made its first
        election quickly.
        """
        with Client(self.admin_url) as client:
            config: dict[str, Any] = client.admin.command("replSetGetConfig")["config"]
            del config["settings"]
            client.admin.command("replSetReconfig", config | {"version": config["version"] + 1})

    def leader(self) -> Member | None:
        """Who says that it is the primary. Of two that say so, the one that was elected later."""
        answers = [(say_hello(member.port) or {}, member) for member in self.members]
        claims = [
            (answer["electionId"], member)
            for answer, member in answers
            if answer.get("isWritablePrimary")
        ]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def others(self, member: Member) -> list[Member]:
        """All but that one."""
        return [other for other in self.members if other is not member]

    def wait_for_leader(self, *, other_than: Member | None = None) -> Member:
        """Until there is a primary. Returns it."""

        def elected() -> Member | None:
            leader = self.leader()
            return None if leader is other_than else leader

        found: Member = wait_until(elected, timeout=PATIENCE_SECONDS, message="a primary")
        return found

    def wait_for_all(self) -> None:
        """Until one is primary, and all the others follow it."""

        def complete() -> bool:
            return (
                sum(member.is_primary for member in self.members) == 1
                and len(self.secondaries()) == COUNT - 1
            )

        wait_until(
            complete, timeout=PATIENCE_SECONDS, message="a primary, and all others to follow it"
        )

    def step_down(self) -> Member:
        """Have the primary step down in favour of another, which is returned."""

        def stepped_down() -> Member | None:
            leader = self.wait_for_leader()
            with Client(leader.url) as client:
                try:
                    client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)
                except OperationFailure:  # no other is as far yet, or it has stepped down by itself
                    return None
            return leader

        before: Member = wait_until(
            stepped_down, timeout=PATIENCE_SECONDS, message="the primary to step down"
        )
        return self.wait_for_leader(other_than=before)


@contextmanager
def _mounted(directory: Path) -> Iterator[None]:
    """A small file system of its own in the directory."""
    directory.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", directory], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
