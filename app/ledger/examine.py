"""What `doctor` asks of the ledger: who answers, whether it takes writes as it must, and whether it
has what we use.

Everything goes through the client that a worker has, with its options. What is wrong is raised,
with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient, IndexModel, ReadPreference
from pymongo import errors as driver
from pymongo.write_concern import WriteConcern

from app.core.clock import APART, LONG_AGO, machine_now, utc_now
from app.core.errors import LedgerRefused, LedgerUnavailable, RowrelayError
from app.ledger.client import Database, Document, query, translate

COLLECTION = "doctor"
"""Holds only the document of a running `doctor`, and one index."""

_READ_ALONE = (
    "Rowrelay reads and writes through the primary: "
    "name all members in MONGO_URL and leave directConnection out"
)


@dataclass(frozen=True, slots=True)
class Role:
    """The server that answers."""

    about: str
    """Product, version and place in the replica set, on one line."""
    warnings: Mapping[str, str]
    """Subject → what was found, and what to do. The ledger works, with less certainty than it
    could.
    """


class Examination:
    """Asks one ledger, over a client of its own."""

    def __init__(
        self, client: AsyncMongoClient[Document], database: Database, patience: timedelta
    ) -> None:
        """`patience`: how long a majority may take to acknowledge a write."""
        self._client = client
        self._database = database
        self._patience = patience

    @query
    async def role(self) -> Role:
        """The server that takes our writes. Raises `LedgerUnavailable` where none does now,
        `LedgerRefused` for a secondary.
        """
        asked_at = machine_now()
        try:
            hello = await self._client.admin.command("hello")
        except driver.ServerSelectionTimeoutError as error:
            raise await self._no_writer(error) from error
        off = clock_difference(hello, asked_at, machine_now())
        if wrong := wrong_role(hello):
            raise wrong
        product = product_of(await self._client.admin.command("buildInfo"))
        direct = self._client.topology_description.topology_type_name == "Single"
        return Role(f"{product}, {place_of(hello)}", {**doubts(hello, direct=direct), **off})

    @query
    async def write(self) -> None:
        """Insert a document and delete it again, both acknowledged by a majority. Raises what keeps
        us from it.
        """
        concern = WriteConcern(
            "majority", wtimeout=max(1, int(self._patience.total_seconds() * 1000))
        )
        collection = self._database[COLLECTION].with_options(write_concern=concern)
        document: Document = {"_id": uuid4().hex, "at": utc_now()}
        try:
            await collection.insert_one(document)
            await collection.delete_one({"_id": document["_id"]})
        except driver.WriteConcernError as error:
            raise _no_majority(error, self._patience) from error

    @query
    async def partial_index(self) -> None:
        """Make a partial index, as the sweep's questions need. Raises `LedgerRefused` where the
        server has none.
        """
        partial = {"at": {"$gt": LONG_AGO}, "state": "open"}
        try:
            await self._database[COLLECTION].create_indexes(
                [IndexModel([("at", 1)], name="partial", partialFilterExpression=partial)]
            )
        except driver.OperationFailure as error:
            raise _no_partial_index(error) from error

    async def _no_writer(self, error: driver.ServerSelectionTimeoutError) -> RowrelayError:
        """Why no server takes our writes: what a member that answers says, or the driver where none
        does.
        """
        try:
            hello = await self._client.admin.command(
                "hello", read_preference=ReadPreference.NEAREST
            )
        except driver.PyMongoError:
            return translate(error)
        servers = self._client.topology_description.server_descriptions()
        silent = [
            f"{host}:{port}"
            for (host, port), server in servers.items()
            if server.server_type_name == "Unknown"
        ]
        return no_primary(hello, silent, len(servers))


def wrong_role(hello: Mapping[str, Any]) -> RowrelayError | None:
    """What keeps a server that answered from being asked for anything; `None` for one that takes
    writes.
    """
    if hello.get("isWritablePrimary", hello.get("ismaster")):
        return None
    who = f"ledger: {hello.get('me', 'the server')}"
    if hello.get("secondary"):
        return LedgerRefused(
            f"{who} is a secondary of replica set {hello.get('setName')}; {_READ_ALONE}"
        )
    if hello.get("arbiterOnly"):
        return LedgerRefused(
            f"{who} is an arbiter of replica set {hello.get('setName')}; {_READ_ALONE}"
        )
    if hello.get("isreplicaset"):
        return LedgerRefused(f"{who} waits to be made a replica set: run rs.initiate() on it")
    return LedgerUnavailable(
        f"{who} is neither primary nor secondary now: it starts, or recovers; look at its log"
    )


def no_primary(hello: Mapping[str, Any], silent: Sequence[str], members: int) -> RowrelayError:
    """What is wrong with a set that has no primary, by what one member says and which do not
    answer.
    """
    name = f"ledger: replica set {hello.get('setName', '?')} has no primary"
    if silent:
        return LedgerUnavailable(
            f"{name}: {len(silent)} of {members} members do not answer: {', '.join(silent)}; "
            "start them, or mend the network: a majority must elect one"
        )
    return LedgerUnavailable(
        f"{name}, although all {members} members answer: wait for the election, then look at rs.status()"
    )


def place_of(hello: Mapping[str, Any]) -> str:
    """Where in a replica set, or before one, the server stands."""
    if hello.get("msg") == "isdbgrid":
        return "a router (mongos)"
    if name := hello.get("setName"):
        members = [*hello.get("hosts", ()), *hello.get("passives", ()), *hello.get("arbiters", ())]
        return f"primary of replica set {name}, {len(members)} member{'s' if len(members) != 1 else ''}"
    return "no replica set"


def product_of(build: Mapping[str, Any]) -> str:
    """Who made the server, by its answer to `buildInfo`."""
    ferret = build.get("ferretdb")
    if isinstance(ferret, Mapping):
        return f"FerretDB {ferret.get('version', '?')} (as MongoDB {build.get('version', '?')})"
    return f"MongoDB {build.get('version', '?')}"


def doubts(hello: Mapping[str, Any], *, direct: bool) -> dict[str, str]:
    """What works, and will not keep every promise: subject → what to do. `direct`: no other member
    is looked for.
    """
    if hello.get("msg") == "isdbgrid":
        return {}
    name = hello.get("setName")
    if name is None:
        return {
            "replica set": "none, a standalone server: while it is down nothing moves, what its disk loses is lost; "
            "make it a replica set (mongod --replSet rs0, then rs.initiate()), of three members for a failover"
        }
    if direct and len(hello.get("hosts", ())) > 1:
        return {
            "replica set": f"directConnection=true reaches this member alone, and stops at a failover; {_READ_ALONE}"
        }
    return {}


def time_of(hello: Mapping[str, Any]) -> datetime | None:
    """The server's time of day in its answer to `hello`; `None` where it does not tell."""
    theirs = hello.get("localTime")
    if not isinstance(theirs, datetime):
        return None
    return theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs


def clock_difference(
    hello: Mapping[str, Any], asked_at: datetime, answered_at: datetime
) -> dict[str, str]:
    """How far the server's clock is from this machine's, where that is more than the answer took
    and `APART`.
    """
    theirs = time_of(hello)
    if theirs is None:
        return {}
    if asked_at - APART <= theirs <= answered_at + APART:
        return {}
    seconds = (theirs - answered_at).total_seconds()
    way = "ahead of" if seconds > 0 else "behind"
    return {"clock": f"the server's is {abs(seconds):.0f} s {way} this machine's; run NTP on both"}


def _no_majority(error: driver.WriteConcernError, patience: timedelta) -> RowrelayError:
    """The primary wrote, and too few members followed."""
    text = str(translate(error)).removeprefix("ledger: ")
    said = f"ledger: no majority of the replica set acknowledged a write within {patience.total_seconds():g} s ({text})"
    return LedgerUnavailable(
        f"{said}; start the members that are down, or look in rs.status() for what holds them up"
    )


def _no_partial_index(error: driver.OperationFailure) -> RowrelayError:
    """A refusal means that the server lacks them, unless it passes or is one of a right."""
    said = translate(error)
    if said.retryable or error.code in (13, 18):
        return said
    text = str(said).removeprefix("ledger: ")
    return LedgerRefused(
        f"ledger: the server makes no partial index ({text}); use MongoDB 4.4 or later, or a server that has them"
    )
