"""A ledger with enough of everything that a server must choose how to answer: three feeds, 27,000
deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice

from pymongo.synchronous.database import Database

from app.core.states import State
from app.ledger.client import Document
from app.ledger.stats import minute_id
from tests.support.ledger import FEED, NOW

BIG, PAUSED = "big", "paused"
BATCH = 10
JOBS = ("report-hour", "reconcile", "report-day", "purge")
COUNTS = {
    FEED: {
        State.DELIVERED: 6000,
        State.SKIPPED: 200,
        State.CANCELLED: 200,
        State.DEAD: 400,
        State.QUEUED: 400,
        State.RETRYING: 300,
    },
    BIG: {
        State.DELIVERED: 8000,
        State.SKIPPED: 1000,
        State.DEAD: 2000,
        State.QUEUED: 2000,
        State.RETRYING: 2000,
    },
    PAUSED: {State.DELIVERED: 1000, State.DEAD: 500, State.QUEUED: 1000, State.RETRYING: 2000},
}
"""Feed → state → deliveries in it."""
ACKNOWLEDGED = 100
"""Dead letters of each feed: every fourth of the first 400."""
ONE_DAY = 3000
"""So many of a feed's deliveries were settled on one day, a second apart; the others a quarter of
an hour apart.
"""
DAY = (NOW - timedelta(days=20)).replace(hour=0, minute=0, second=0)
RESTORED = 200
"""Delivered ones of the paused feed that are back from an archive: every fourth of the first 800.
"""
TICKS, REPORTS, CERTIFICATES, MINUTES, FILES = 2400, 1000, 120, 3000, 200
"""Of each job, or of each feed."""


def open_ones(state: State, feed: str | None = None) -> int:
    """Deliveries in that state, of one feed or of all."""
    return sum(counts.get(state, 0) for name, counts in COUNTS.items() if feed in (None, name))


def fill(database: Database[Document]) -> None:
    """Write all of it, in bulk."""
    for feed, counts in COUNTS.items():
        for state, count in counts.items():
            _write(
                database, "deliveries", (_delivery(feed, state, number) for number in range(count))
            )
        _write(database, "batches", _batches(feed, counts[State.QUEUED]))
        _write(database, "stats", map(_minute, [feed] * MINUTES, range(MINUTES)))
        _write(database, "reports", map(_report, [feed] * REPORTS, range(REPORTS)))
        _write(
            database, "certificates", map(_certificate, [feed] * CERTIFICATES, range(CERTIFICATES))
        )
        _write(database, "archives", map(_file, [feed] * FILES, range(FILES)))
    ids = (
        f"{FEED}:{State.DELIVERED}-{number:05}" for number in range(COUNTS[FEED][State.DELIVERED])
    )
    _write(
        database,
        "attempts",
        (
            {"_id": f"{one}#aa", "feed": FEED, "at": NOW, "outcome": "delivered", "status": 200}
            for one in ids
        ),
    )
    for job in JOBS:
        _write(database, "ticks", map(_tick, [job] * TICKS, range(TICKS)))


def name_of(feed: str, state: State, number: int) -> str:
    """A delivery's id."""
    return f"{feed}:{state.value}-{number:05}"


def batch_name(feed: str, number: int) -> str:
    """The id of the batch that the feed's queued delivery of that number is in."""
    return f"{feed}-{number // BATCH:016x}"


def _write(database: Database[Document], collection: str, documents: Iterable[Document]) -> None:
    waiting = iter(documents)
    while some := list(islice(waiting, 2000)):
        database[collection].insert_many(some, ordered=False)


def _delivery(feed: str, state: State, number: int) -> Document:
    at = (
        DAY + timedelta(seconds=number)
        if number < ONE_DAY
        else NOW - timedelta(minutes=15) * (number - ONE_DAY)
    )
    document: Document = {
        "_id": name_of(feed, state, number), "feed": feed, "key": f"{state.value}-{number:05}", "position": number,
        "payload": '{"note":"x"}', "created_at": at - timedelta(minutes=1), "attempts": 1, "state": state.value,
    }  # fmt: skip
    if state is State.QUEUED:
        return document | {"batch": batch_name(feed, number)}
    if state is State.RETRYING:
        return document | {"next_attempt_at": at}
    document |= {"finished_at": at, "last": {"at": at, "status": 200}, "reason": "404"}
    if state is State.DEAD and number % 4 == 0 and number < 4 * ACKNOWLEDGED:
        document |= {"acknowledged": {"at": at, "by": "me"}, "kept_from": at}
    if feed == PAUSED and state is State.DELIVERED and number % 4 == 0 and number < 4 * RESTORED:
        document |= {"restored_at": NOW, "restored_from": "a file", "kept_from": NOW}
    return document


def _batches(feed: str, queued: int) -> Iterator[Document]:
    for number in range(0, queued, BATCH):
        ids = [name_of(feed, State.QUEUED, number + place) for place in range(BATCH)]
        at = (
            NOW + timedelta(seconds=number - queued / 2)
            if feed != PAUSED
            else NOW - timedelta(days=1)
        )
        yield {
            "_id": batch_name(feed, number),
            "feed": feed,
            "ids": ids,
            "visible_at": at,
            "tries": 0,
        }


def _minute(feed: str, number: int) -> Document:
    at = NOW.replace(second=0) - timedelta(minutes=number)
    return {
        "_id": minute_id(feed, at),
        "feed": feed,
        "minute": at,
        "logged": 1,
        "outcomes": {"delivered": 1},
    }


def _report(feed: str, number: int) -> Document:
    end = NOW.replace(minute=0, second=0) - timedelta(hours=number)
    document: Document = {
        "_id": f"{feed}|{end:%Y-%m-%dT%H}+00:00",
        "feed": feed,
        "end": end,
        "report": {},
    }
    return document | ({"retry_at": NOW - timedelta(minutes=number)} if number < 5 else {})


def _certificate(feed: str, number: int) -> Document:
    at = NOW - timedelta(days=number)
    return {
        "_id": f"{feed}|{at.isoformat(timespec='milliseconds')}", "feed": feed, "at": at, "begun_at": at,
        "position": 1, "since": None, "source_rows": 0, "states": {}, "missing": 0, "missing_ids": [], "healed": 0,
        "deleted": 0, "deleted_states": {}, "superseded": 0, "purged": 0, "awaited": 0,
    }  # fmt: skip


def _file(feed: str, number: int) -> Document:
    day = (NOW - timedelta(days=number)).date().isoformat()
    return {
        "_id": f"{feed}/{feed}-{day}.ndjson.zst", "feed": feed, "day": day, "part": 1, "begun_at": NOW,
        "state": "writing" if number < 3 else "done", "open": number < 3,
    }  # fmt: skip


def _tick(job: str, number: int) -> Document:
    """All done but the last three, which are open; none ever failed."""
    end = NOW.replace(minute=0, second=0) - timedelta(hours=number)
    return {
        "_id": f"{job}|{end:%Y-%m-%dT%H}", "job": job, "period": f"{end:%Y-%m-%dT%H}", "kind": "hour",
        "start": end - timedelta(hours=1), "end": end, "state": "open" if number < 3 else "done", "due_at": end,
        "tries": 0, "fruitless": 0, "steps": [],
    }  # fmt: skip
