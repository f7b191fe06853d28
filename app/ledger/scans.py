"""`walks`: one document for each feed being reconciled: how far its scan has come, so that another
run can continue it.

    {_id: feed, token, saved_at, begun_at, position, reads, since, spans [{after, upto}], floor, total,
    phase, place, after,
     last_id, source_rows, states {<state>: n}, found, missing, missing_ids, healed, deleted_states
     {<state>: n}, superseded, purged, awaited, awaited_ids, shared, shared_ids, changed,
     changed_ids, by_key, acknowledged}

It is no lock. Of two scans of a feed, the one that began last is stored; both are right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

from app.core.position import Position, ReadRange
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query


class Phase(StrEnum):
    """The phase of a scan."""

    PURGED = "purged"
    """Counts the source rows below the purge watermark."""
    SOURCE = "source"
    """Looks up each source row's delivery."""
    LEDGER = "ledger"
    """Looks up each delivery's source row, to find deleted ones."""


@dataclass(slots=True)
class Scan:
    """How far a reconciliation has come, and its sums so far. See `Certificate` for what they
    count.
    """

    feed: str
    token: str
    """Of the run that works on it."""
    begun_at: datetime
    position: Position
    """The feed's cursor then: the scan ends there."""
    spans: tuple[ReadRange, ...]
    """The read ranges of the cursor then, each with its end."""
    reads: str = ""
    """What selects the feed's rows, as a hash: a scan of other rows is not continued."""
    since: Position = None
    floor: Position = None
    """The purge watermark then: the leading part of a position."""
    total: int | None = None
    """Deliveries of the feed when the scan began; `None` where polls kept adding some."""
    phase: Phase = Phase.PURGED
    place: int = 0
    """Index of the read range that it is in."""
    after: Position = None
    """How far it has come in that range; `None`: it has not begun it."""
    last_id: str = ""
    """`ledger`: the last id compared."""
    source_rows: int = 0
    states: Counter[State] = field(default_factory=Counter)
    found: int = 0
    """Deliveries found for source rows: as many as rows, where no two share a key."""
    missing: int = 0
    missing_ids: list[str] = field(default_factory=list)
    healed: int = 0
    deleted_states: Counter[State] = field(default_factory=Counter)
    superseded: int = 0
    purged: int = 0
    awaited: int = 0
    awaited_ids: list[str] = field(default_factory=list)
    shared: int = 0
    """Rows that share their key with another row, and have no delivery of their own."""
    shared_ids: list[str] = field(default_factory=list)
    changed: int = 0
    """Rows whose content differs from what was logged."""
    changed_ids: list[str] = field(default_factory=list)
    by_key: int = 0
    acknowledged: int = 0


class Scans:
    """Every query on `walks`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["walks"]

    @query
    async def begin(self, scan: Scan, now: datetime) -> None:
        """Store a new scan, in place of any other of its feed."""
        await self._collection.replace_one({"_id": scan.feed}, _document(scan, now), upsert=True)

    @query
    async def resume(self, feed: str, token: str, saved_since: datetime, reads: str) -> Scan | None:
        """The feed's scan of everything, where `reads` is what it was, saved at that moment or later;
        to be continued under this token.
        """
        wanted = {"_id": feed, "since": None, "reads": reads, "saved_at": {"$gte": saved_since}}
        document = await self._collection.find_one_and_update(
            wanted, {"$set": {"token": token}}, return_document=True
        )
        return _scan(document) if document else None

    @query
    async def save(self, scan: Scan, now: datetime) -> None:
        """Store how far the scan has come; a no-op where another has begun since."""
        await self._collection.replace_one(
            {"_id": scan.feed, "token": scan.token}, _document(scan, now)
        )

    @query
    async def end(self, scan: Scan) -> None:
        """Delete the scan; a no-op where another has begun since."""
        await self._collection.delete_one({"_id": scan.feed, "token": scan.token})


def _document(scan: Scan, now: datetime) -> Document:
    document = asdict(scan) | {
        "_id": scan.feed,
        "saved_at": now,
        "phase": scan.phase.value,
        "states": {state.value: count for state, count in scan.states.items()},
        "deleted_states": {state.value: count for state, count in scan.deleted_states.items()},
    }
    del document["feed"]
    return document


def _scan(document: Document) -> Scan:
    fields = {name: value for name, value in document.items() if name not in ("_id", "saved_at")}
    fields |= {
        "feed": document["_id"],
        "phase": Phase(document["phase"]),
        "spans": tuple(ReadRange(**span) for span in document["spans"]),
        "states": Counter({State(name): count for name, count in document["states"].items()}),
        "deleted_states": Counter(
            {State(name): count for name, count in document["deleted_states"].items()}
        ),
    }
    return Scan(**fields)
