"""A ledger as it is after a month, for measuring the console: the scene of the console's tests, with its
reports, certificates, ticks and processes, and behind it millions of older deliveries.

Old deliveries are spread evenly over `DAYS`: most are delivered, a few skipped or cancelled, and the dead
letters come all along, of a dozen kinds of reason; every other reason names something of its row. The newest
wait: some in batches, some for a retry. Payloads are kept for a week, attempts of what failed and of the
newest, statistics for eight days, reports and certificates for sixty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeAlias

from pymongo import MongoClient, WriteConcern
from pymongo.database import Database

from app.core.clock import utc_now
from app.core.states import State
from app.ledger.certificates import certificate_id
from tests.support.buckets import day_of

Document: TypeAlias = dict[str, Any]
Ledger: TypeAlias = Database[Document]

AT_ONCE = 5000
DAYS = 30
PAYLOAD_DAYS, STATS_DAYS, KEPT_DAYS = 7, 8, 60
WAITING = 4000
"""Of each feed that has a backlog: queued in batches of a hundred; half as many wait for a retry."""
WITH_ATTEMPT = 100_000
"""The newest that are settled, of which the attempt is on record."""
FEEDS = ("orders", "orders", "orders", "invoices", "invoices", "refunds")
"""Which feed has the next: half are orders."""
REASONS: tuple[tuple[int | None, str], ...] = (
    (404, "404 Not Found"),
    (422, "422 Unprocessable Content"),
    (422, "422: customer.tax_id is missing in row {number}"),
    (400, "400: unknown currency 'X{small}' of order {number}"),
    (409, "409 Conflict"),
    (409, '409: {{"error":"exists","id":{number}}}'),
    (413, "413 Content Too Large"),
    (500, "12 attempts: 500 Internal Server Error"),
    (503, "12 attempts: 503 Service Unavailable"),
    (None, "12 attempts: ReadTimeout: no answer within partner.timeout (10s)"),
    (None, "older than retry.max_age (3d): ConnectError: https://partner.example/{number}"),
    (None, "row {number}: column 'customer' is not UTF-8"),
)
"""HTTP status and reason of the next dead letter."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is."""

    count: int
    """Deliveries."""
    dead: int


def fill(url: str, size: Size) -> None:
    """Write all of it, beside what the scene has."""
    with MongoClient[Document](url, tz_aware=True) as client:
        ledger = client.get_default_database()
        now = utc_now()
        _write(ledger, "deliveries", _deliveries(size, now))
        _write(ledger, "attempts", _attempts(size, now))
        waiting = [*_waiting(size, now)]
        _write(ledger, "deliveries", waiting)
        _write(ledger, "batches", _batches(waiting, now))
        _stats(ledger, now)
        _write(ledger, "reports", _reports(ledger))
        _write(ledger, "certificates", _certificates(ledger))


def old_id(number: int) -> str:
    """The id of an old delivery, by its number."""
    return f"{FEEDS[number % len(FEEDS)]}:{_key(number)}"


def _key(number: int) -> str:
    if FEEDS[number % len(FEEDS)] == "invoices":
        return f"{('acme', 'globex', 'initech')[number % 7 % 3]}:OLD-2026%2F{number:08}"
    return f"{10_000_000 + number}"


def _write(ledger: Ledger, name: str, documents: Iterable[Document]) -> None:
    collection = ledger[name].with_options(write_concern=WriteConcern(w=1))
    waiting = iter(documents)
    while some := list(islice(waiting, AT_ONCE)):
        collection.insert_many(some, ordered=False)


def _moment(size: Size, number: int, now: datetime) -> datetime:
    return now - timedelta(days=DAYS) * ((size.count - number) / size.count) - timedelta(minutes=1)


def _state(size: Size, number: int) -> State:
    every = size.count // size.dead
    if number % every == every - 1:
        return State.DEAD
    if number % 20 == 3:
        return State.SKIPPED
    return State.CANCELLED if number % 1000 == 7 else State.DELIVERED


def _base(number: int, at: datetime, state: State, now: datetime) -> Document:
    feed = FEEDS[number % len(FEEDS)]
    made: Document = {
        "_id": old_id(number), "feed": feed, "key": _key(number), "position": number, "place": number * 7919 % 2**48,
        "created_at": at - timedelta(seconds=2), "attempts": 1, "state": state.value,
    }  # fmt: skip
    if now - at < timedelta(days=PAYLOAD_DAYS):
        made["payload"] = (
            f'{{"id":{number},"customer":"C-{number % 9973:05}","name":"Nguyen Van A","amount":"{number % 977}.50",'
            '"note":"leave it at the door, and ring twice"}'
        )
    return made


def _deliveries(size: Size, now: datetime) -> Iterator[Document]:
    for number in range(size.count):
        at, state = _moment(size, number, now), _state(size, number)
        made = _base(number, at, state, now) | {"finished_at": at}
        if state is State.DEAD:
            status, reason = _reason(size, number)
            last: Document = {"at": at, "error": reason}
            made |= {
                "reason": reason,
                "attempts": 3,
                "last": last | ({} if status is None else {"status": status}),
            }
        elif state is State.DELIVERED:
            made["last"] = {"at": at, "status": 201 if number % 3 else 200}
        elif state is State.SKIPPED:
            made |= {"reason": "filter.skip: amount is 0", "attempts": 0}
        else:
            made |= {
                "reason": "cancelled",
                "attempts": 0,
                "cancelled": {"at": at, "by": "vy", "why": "sent by hand"},
            }
        yield made


def _reason(size: Size, number: int) -> tuple[int | None, str]:
    status, reason = REASONS[number // (size.count // size.dead) % len(REASONS)]
    return status, reason.format(number=number, small=number % 97)


def _attempts(size: Size, now: datetime) -> Iterator[Document]:
    for number in range(size.count):
        state = _state(size, number)
        at = _moment(size, number, now)
        if state is State.DEAD:
            status, reason = _reason(size, number)
            yield from (
                _attempt(number, turn, at - timedelta(minutes=5 * (2 - turn)), status, reason)
                for turn in range(3)
            )
        elif state is State.DELIVERED and number >= size.count - WITH_ATTEMPT:
            yield _attempt(number, 0, at, 200, None)


def _attempt(
    number: int, turn: int, at: datetime, status: int | None, error: str | None
) -> Document:
    made: Document = {
        "_id": f"{old_id(number)}#t{turn}", "feed": FEEDS[number % len(FEEDS)], "at": at,
        "duration_ms": 30 + number % 90,
        "outcome": "delivered" if error is None else "dead" if turn == 2 else "retry", "worker": "celery@rowrelay-1",
    }  # fmt: skip
    if status is not None:
        made |= {"status": status, "response": f'{{"accepted":{str(error is None).lower()}}}'}
    return made | ({} if error is None else {"error": error})


def _waiting(size: Size, now: datetime) -> Iterator[Document]:
    """What is owed: queued, and waiting for a retry."""
    for number in range(size.count, size.count + WAITING * len(FEEDS) // 2):
        at = now - timedelta(seconds=(size.count + WAITING * 3 - number) / 40)
        if number % 3:
            yield _base(number, at, State.QUEUED, now) | {
                "attempts": 0,
                "batch": f"bench-{FEEDS[number % len(FEEDS)]}-{number // 600}",
            }
        else:
            yield _base(number, at, State.RETRYING, now) | {
                "next_attempt_at": now + timedelta(hours=6, seconds=number % 3600),
                "last": {"at": at, "status": 503, "error": "503 Service Unavailable"},
            }


def _batches(waiting: Sequence[Document], now: datetime) -> Iterator[Document]:
    """They are due only after the measurement."""
    ids: dict[str, list[Document]] = {}
    for one in waiting:
        if "batch" in one:
            ids.setdefault(one["batch"], []).append(one)
    for name, those in ids.items():
        yield {
            "_id": name, "feed": those[0]["feed"], "ids": [one["_id"] for one in those], "n": len(those),
            "visible_at": now + timedelta(hours=6), "tries": 0,
        }  # fmt: skip


def _stats(ledger: Ledger, now: datetime) -> None:
    """Minutes of the last days; those that the scene has stay as they are."""
    ours = {one["_id"] for one in ledger["stats"].find({}, {"_id": 1})}
    start = now.replace(second=0, microsecond=0) - timedelta(days=STATS_DAYS)
    for place, feed in enumerate(dict.fromkeys(FEEDS)):
        for day in range(STATS_DAYS):
            minutes = day_of(
                feed,
                80_000 // (place + 1),
                bad=day == STATS_DAYS - 2,
                start=start + timedelta(days=day),
                seed=day * 10 + place,
            )
            _write(ledger, "stats", (one for one in minutes if one["_id"] not in ours))


def _reports(ledger: Ledger) -> Iterator[Document]:
    """The scene's reports, of each day before too."""
    found = ledger["reports"].find({"kind": "day"}).to_list()
    for stored in found:
        for back in range(1, KEPT_DAYS):
            made = deepcopy(stored)
            start = stored["start"] - timedelta(days=back)
            period = f"{start:%Y-%m-%d}"
            made |= {"_id": f"{stored['feed']}|{period}", "period": period, "start": start}
            made["end"] = stored["end"] - timedelta(days=back)
            made["report"] = made["report"] | {"period": period}
            yield made


def _certificates(ledger: Ledger) -> Iterator[Document]:
    found = ledger["certificates"].find().to_list()
    for stored in found:
        for back in range(1, KEPT_DAYS):
            at = stored["at"] - timedelta(days=back)
            begun_at = stored["begun_at"] - timedelta(days=back)
            yield stored | {
                "_id": certificate_id(stored["feed"], at),
                "at": at,
                "begun_at": begun_at,
            }
