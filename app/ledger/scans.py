"""`walks`: one document a feed whose reconciliation is under way: how far it came, so that another can go on with it.

    {_id: feed, token, saved_at, begun_at, position, since, spans [{after, upto}], floor, total, phase, place, after,
     last_id, source_rows, states {<state>: n}, found, missing, missing_ids, healed, deleted_states {<state>: n},
     superseded, purged, awaited, awaited_ids, shared, shared_ids, changed, changed_ids, by_key, acknowledged}

It locks nothing out. Of two walks over a feed, the one that began last is remembered; both are right.
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
    """What a walk is at."""

    PURGED = "purged"
    """Counts the source rows below the retention floor."""
    SOURCE = "source"
    """Looks each source row's delivery up."""
    LEDGER = "ledger"
    """Looks each delivery's source row up, to find what was deleted."""


@dataclass(slots=True)
class Scan:
    """How far a reconciliation has come, and its sums so far. See `Certificate` for what they count."""

    feed: str
    token: str
    """Of the run that is at it."""
    begun_at: datetime
    position: Position
    """Where the feed's cursor stood then: the walk ends there."""
    spans: tuple[ReadRange, ...]
    """What the cursor had read, each with its end."""
    since: Position = None
    floor: Position = None
    """The retention floor then: the leading part of a position."""
    total: int | None = None
    """Deliveries of the feed when the walk began; `None` where they grew while they were counted."""
    phase: Phase = Phase.PURGED
    place: int = 0
    """Which of the spans it is in."""
    after: Position = None
    """How far it came in that span; `None`: it has not begun with it."""
    last_id: str = ""
    """`ledger`: the last id looked at."""
    source_rows: int = 0
    states: Counter[State] = field(default_factory=Counter)
    found: int = 0
    """Deliveries that source rows have: as many as rows, where no two share a key."""
    missing: int = 0
    missing_ids: list[str] = field(default_factory=list)
    healed: int = 0
    deleted_states: Counter[State] = field(default_factory=Counter)
    superseded: int = 0
    purged: int = 0
    awaited: int = 0
    awaited_ids: list[str] = field(default_factory=list)
    shared: int = 0
    """Rows that share their key with another one, and have no delivery of their own."""
    shared_ids: list[str] = field(default_factory=list)
    changed: int = 0
    """Rows that hold something else than what was logged."""
    changed_ids: list[str] = field(default_factory=list)
    by_key: int = 0
    acknowledged: int = 0


class Scans:
    """Every query on `walks`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["walks"]

    @query
    async def begin(self, walk: Scan, now: datetime) -> None:
        """Remember a new walk, in place of any other over its feed."""
        await self._collection.replace_one({"_id": walk.feed}, _document(walk, now), upsert=True)

    @query
    async def resume(self, feed: str, token: str, saved_since: datetime) -> Scan | None:
        """Go on, under this token, with the walk over the whole feed that was saved at that moment or later."""
        wanted = {"_id": feed, "since": None, "saved_at": {"$gte": saved_since}}
        document = await self._collection.find_one_and_update(wanted, {"$set": {"token": token}}, return_document=True)
        return _walk(document) if document else None

    @query
    async def save(self, walk: Scan, now: datetime) -> None:
        """Remember how far the walk has come; a no-op where another has begun since."""
        await self._collection.replace_one({"_id": walk.feed, "token": walk.token}, _document(walk, now))

    @query
    async def end(self, walk: Scan) -> None:
        """Forget the walk; a no-op where another has begun since."""
        await self._collection.delete_one({"_id": walk.feed, "token": walk.token})


def _document(walk: Scan, now: datetime) -> Document:
    document = asdict(walk) | {
        "_id": walk.feed,
        "saved_at": now,
        "phase": walk.phase.value,
        "states": {state.value: count for state, count in walk.states.items()},
        "deleted_states": {state.value: count for state, count in walk.deleted_states.items()},
    }
    del document["feed"]
    return document


def _walk(document: Document) -> Scan:
    fields = {name: value for name, value in document.items() if name not in ("_id", "saved_at")}
    fields |= {
        "feed": document["_id"],
        "phase": Phase(document["phase"]),
        "spans": tuple(ReadRange(**span) for span in document["spans"]),
        "states": Counter({State(name): count for name, count in document["states"].items()}),
        "deleted_states": Counter({State(name): count for name, count in document["deleted_states"].items()}),
    }
    return Scan(**fields)
