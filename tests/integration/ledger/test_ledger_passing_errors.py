"""What passes at the ledger is survived: a genuine server fails a part of all commands, and nothing
is lost by it.

The failures are the server's own (`failCommand`), with the codes that `app/ledger/error_codes.py`
judges as passing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pymongo import helpers_shared
from pymongo.errors import PyMongoError
from structlog.testing import capture_logs

from app.core.attempts import Outcome
from app.core.errors import LedgerRefused, LedgerUnavailable
from app.core.states import State
from app.feeds.feed import Rate
from app.jobs.schedule import REPORT_HOUR
from app.ledger import Ledger
from app.ledger.error_codes import PASSING, PERMANENT
from app.ledger.persistence import persistent
from app.ledger.selection import Selection
from app.ledger.settled import CATEGORIES, TimeRange
from app.ledger.ticks import TickState
from app.operations.acknowledge import Acknowledging
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import Replaying
from app.retention.archive.restore import Restoring
from app.retention.purge_lock import PurgeLock
from tests.support.databases import Databases
from tests.support.doubles import VirtualClock
from tests.support.mongods import Client, failing, replica_set, url_of
from tests.support.periodic import Office
from tests.support.reconciled import Shop
from tests.support.relay import LEASE, Relay
from tests.support.retention import Shelf, at_once, kept_feed
from tests.support.sources import source_tables
from tests.support.wait import until

T = TypeVar("T")

READS, WRITES = (
    ("find", "aggregate", "count", "getMore"),
    ("insert", "update", "delete", "findAndModify"),
)
TRIES = 300
SHARE = 0.05
"""So many of the commands fail; the driver's own second try meets the same odds."""


def _unacknowledged(code: int) -> dict[str, Any]:
    return {"writeConcernError": {"code": code, "errmsg": f"not acknowledged: {code}"}}


KINDS: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "a server with too much to do": (READS + WRITES, {"errorCode": 365}),
    "a rate limit, by its labels": (
        READS + WRITES,
        {"errorCode": 462, "errorLabels": ["SystemOverloadedError", "RetryableError"]},
    ),
    "a label over a code without a name": (READS + WRITES, {"errorCode": 7654, "errorLabels": ["RetryableWriteError"]}),
    "an operation that was killed": (READS + WRITES, {"errorCode": 11601}),
    "a primary that steps down": (READS + WRITES, {"errorCode": 11602}),
    "a throttled service": (READS + WRITES, {"errorCode": 16500}),
    "no majority in time": (WRITES, _unacknowledged(64)),
    "a server that ends": (WRITES, _unacknowledged(11600)),
}  # fmt: skip


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """The driver looks again at a server that it took for lost as soon as it may, not after 10 s."""
    with replica_set(1) as members:
        yield f"{url_of(members)}&heartbeatFrequencyMS=500"


@pytest.fixture(scope="module")
def mongo_url(server_url: str) -> str:
    return server_url


@pytest.fixture(scope="module")
def databases(server_url: str) -> Iterator[Databases]:
    opened = Databases(server_url)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _nothing_raw_is_logged() -> Iterator[None]:
    """No line of the log is more than a line, or holds a raw document of the server."""
    with capture_logs() as logged:
        yield
    for event in logged:
        assert _is_one_plain_line(str(event.get("error", ""))), event


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor gets a few documents at a time."""
    monkeypatch.setattr("app.ledger.settled_reading._BATCH", 3)


def _is_one_plain_line(text: str) -> bool:
    return not any(
        raw in text for raw in ("\n", "clusterTime", "full error", "operationTime", "signature")
    )


async def insisted(
    call: Callable[[], Awaitable[T]], meanwhile: Callable[[], None] = lambda: None
) -> T:
    """Call again and again, as beat does, while the ledger is unavailable. A refusal is the test's
    failure.
    """
    for _ in range(TRIES):
        try:
            return await call()
        except LedgerUnavailable as error:
            told = str(error)
        assert _is_one_plain_line(told)
        meanwhile()
    raise AssertionError(f"not done in {TRIES} tries")


@contextmanager
def _some_fail(url: str, kind: str, share: float = SHARE) -> Iterator[None]:
    commands, failure = KINDS[kind]
    with failing(url, commands, share, **failure):
        yield


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_are_polled_swept_and_delivered(
    ledger: Ledger, server_url: str, kind: str
) -> None:
    relay = Relay(ledger)
    relay.source.add(20)
    with _some_fail(server_url, kind):
        for _ in range(TRIES):
            if len(relay.partner.accepted) == 20:
                break
            await _move(relay)
    for _ in range(4):
        await _move(relay)
    assert set((await relay.states()).values()) == {State.DELIVERED}
    assert len(await relay.states()) == len(relay.partner.accepted) == 20
    assert not await relay.batches()


async def _move(relay: Relay) -> None:
    """What beat and a worker do in a while, each by itself: what one meets keeps no other from its
    work.
    """
    relay.clock.advance(2 * LEASE)
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: relay.polling().poll(relay.feed),
        relay.sweeping().sweep,
        relay.sweeping().adopt_orphans,
        relay.deliver_all,
    )
    for call in calls:
        with suppress(LedgerUnavailable):
            await call()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tick_is_done_and_its_lease_renewed(
    ledger: Ledger, server_url: str, kind: str
) -> None:
    office = Office(ledger, jobs=(REPORT_HOUR,))
    office.at("2026-01-01T12:30")
    worker = office.worker()
    await worker.run(REPORT_HOUR.name)
    office.at("2026-01-01T13:05")
    with _some_fail(server_url, kind):
        await insisted(
            lambda: worker.run(REPORT_HOUR.name), lambda: office.clock.advance(2 * LEASE)
        )
        for _ in range(TRIES):
            if TickState.DONE in (await insisted(lambda: office.states(REPORT_HOUR.name))).values():
                break
            office.clock.advance(2 * LEASE)
            await insisted(
                lambda: worker.run(REPORT_HOUR.name), lambda: office.clock.advance(2 * LEASE)
            )
    assert TickState.DONE in (await office.states(REPORT_HOUR.name)).values()
    assert office.done[REPORT_HOUR.name]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("archive", [True, False], ids=["with an archive", "without one"])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_run_of_a_purge_comes_to_its_end(
    ledger: Ledger, server_url: str, kind: str, tmp_path: Path, archive: bool
) -> None:
    """It asks some 200 times, and goes on where it was."""
    feed = kept_feed(archive=archive)
    shelf = Shelf(ledger, VirtualClock(), tmp_path if archive else None, {"orders": feed})
    ids = {await shelf.add(key, shelf.ago(days=40)) for key in range(12)}
    kept = await shelf.add("new", shelf.ago(days=1))
    with _some_fail(server_url, kind):
        purged = await shelf.purging().purge(feed)
    assert (purged.stopped, purged.payloads, purged.records) == (None, 12, 12)
    assert await shelf.ids() == {kept}
    assert await shelf.attempts_left() == {kept}
    assert not archive or shelf.archived().keys() == ids


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", ["an operation that was killed", "a primary that steps down"])
async def test_what_is_read_is_read_once_though_its_cursor_is_lost(
    ledger: Ledger, server_url: str, kind: str
) -> None:
    """Many share a moment, as those that were cancelled together do."""
    shelf = Shelf(ledger, VirtualClock())
    ids = [await shelf.add(key, shelf.ago(days=40, hours=-(key // 20))) for key in range(50)]
    day = TimeRange(shelf.ago(days=41), shelf.ago(days=39))
    delivered = next(category for category in CATEGORIES if category.state is State.DELIVERED)
    read: list[str] = []
    with _some_fail(server_url, kind, 0.3), persistent(sleep=at_once):
        reading = await ledger.retention.read("orders", delivered, day)
        while chunk := await reading.next(7):
            read += [document["_id"] for document in chunk]
        await reading.close()
    assert read == ids


@pytest.mark.parametrize("kind", ["no majority in time", "a server with too much to do"])
async def test_what_an_operator_moved_is_told_right_though_answers_were_lost(
    ledger: Ledger, server_url: str, kind: str
) -> None:
    relay = Relay(ledger)
    shelf = Shelf(ledger, relay.clock)
    for key in range(30):
        state = State.DEAD if key < 20 else State.RETRYING
        await shelf.add(key, shelf.ago(days=1), state, next_attempt_at=shelf.ago(hours=1))
    dead = [
        Selection(states=(State.DEAD,), ids=tuple(f"orders:{key}" for key in keys))
        for keys in (range(9), range(9, 20))
    ]
    replaying = Replaying(
        ledger,
        relay.queue,
        {"orders": relay.feed},
        message_wait=LEASE,
        now=relay.clock,
        sleep=at_once,
    )
    cancelling = Cancelling(ledger, relay.clock, at_once)
    with _some_fail(server_url, kind, 0.3):
        replayed = await replaying.replay(
            dead[0], Rate(count=100_000, per_seconds=1), By("ada@desk")
        )
        cancelled = await cancelling.cancel(Selection((State.RETRYING,)), By("ada@desk"))
        acknowledged = await Acknowledging(ledger, now=relay.clock, sleep=at_once).acknowledge(
            dead[1], By("ada@desk")
        )
    told = [(one.moved, sum(one.skipped.values())) for one in (replayed, cancelled, acknowledged)]
    assert told == [(9, 0), (10, 0), (11, 0)]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_run_of_a_restore_puts_each_record_back(
    ledger: Ledger, server_url: str, kind: str, tmp_path: Path
) -> None:
    shelf = Shelf(ledger, VirtualClock(), tmp_path, {"orders": kept_feed(payload_days=30)})
    ids = {await shelf.add(key, shelf.ago(days=40)) for key in range(12)}
    await shelf.purging().purge(shelf.feeds["orders"])
    (path,) = shelf.files()
    restoring = Restoring(
        ledger, PurgeLock(ledger, "operator", LEASE, now=shelf.clock), shelf.clock
    )
    with _some_fail(server_url, kind):
        restored = await restoring.restore(path)
    assert (restored.restored, restored.there) == (12, 0)
    assert await shelf.ids() == await shelf.attempts_left() == ids


@pytest.mark.parametrize("kind", KINDS)
async def test_one_run_of_a_replay_moves_each_dead_letter(
    ledger: Ledger, server_url: str, kind: str
) -> None:
    relay = Relay(ledger)
    shelf = Shelf(ledger, relay.clock)
    ids = {await shelf.add(key, shelf.ago(days=1), State.DEAD, reason="400") for key in range(12)}
    replaying = Replaying(
        ledger, relay.queue, {"orders": relay.feed}, message_wait=LEASE, now=relay.clock
    )
    selection = Selection(states=(State.DEAD,), feeds=("orders",))
    with _some_fail(server_url, kind):
        account = await replaying.replay(
            selection, Rate(count=100_000, per_seconds=1), By("ada@desk")
        )
        assert (account.moved, account.skipped.total()) == (12, 0)
        for _ in range(TRIES):
            if len(relay.partner.accepted) == 12:
                break
            await _move(relay)
    assert relay.partner.accepted == ids


@pytest.mark.parametrize("kind", KINDS)
async def test_one_run_of_a_reconciliation_finds_what_is_missing(
    ledger: Ledger, server_url: str, kind: str, tmp_path: Path
) -> None:
    async with source_tables("sqlite", tmp_path) as tables:
        await tables.make(
            "orders", id="BIGINT PRIMARY KEY", note="NVARCHAR", at="MOMENT", rv="ROWVERSION"
        )
        source = tables.source()
        shop = Shop(tables, source, ledger)
        shop.feed_by("identity")
        await shop.write(*range(1, 21))
        await shop.poll()
        await shop.lose(3, 11)
        with _some_fail(server_url, kind):
            certificate = await shop.reconcile()
        await source.close()
    assert certificate.source_rows == 20
    assert await shop.logged() == set(range(1, 21))


@pytest.mark.parametrize("code", [365, 11601, 24, 100, 133, 175, 237, 301, 462, 16500])
async def test_a_lease_is_renewed_once_what_passes_has_passed(
    ledger: Ledger, server_url: str, code: int
) -> None:
    """No renewal is there for a while, and the batch stays with its worker all the same."""
    relay = Relay(ledger, lease=timedelta(seconds=0.6))
    (batch_id, *_) = await relay.poll_rows(1)
    relay.partner.held["orders:1"] = asyncio.Event()
    with capture_logs() as logged:
        delivering = asyncio.create_task(relay.delivering().deliver(relay.feed, batch_id))
        await until(lambda: relay.partner.requests, 30)
        with failing(server_url, ["update"], errorCode=code):
            await until(lambda: [event for event in logged if event["event"] == "renew_failed"], 30)
        before = await _leased_until(ledger, batch_id)
        relay.clock.advance(timedelta(seconds=0.1))
        await until(lambda: _renewed(ledger, batch_id, before), 30)
        relay.partner.held["orders:1"].set()
        assert await delivering == {Outcome.DELIVERED: 1}


async def _renewed(ledger: Ledger, batch_id: str, before: Any) -> bool:
    return bool(await _leased_until(ledger, batch_id) != before)


async def _leased_until(ledger: Ledger, batch_id: str) -> Any:
    found = await ledger._database["batches"].find_one({"_id": batch_id})
    return found and found["lease"]["until"]


async def test_a_refusal_keeps_no_lease_from_being_renewed_either(
    ledger: Ledger, server_url: str
) -> None:
    relay = Relay(ledger, lease=timedelta(seconds=0.6))
    (batch_id, *_) = await relay.poll_rows(1)
    relay.partner.held["orders:1"] = asyncio.Event()
    with capture_logs() as logged:
        delivering = asyncio.create_task(relay.delivering().deliver(relay.feed, batch_id))
        await until(lambda: relay.partner.requests, 30)
        with failing(server_url, ["update"], errorCode=13):
            await until(lambda: [event for event in logged if event["event"] == "renew_failed"], 30)
        relay.partner.held["orders:1"].set()
        assert await delivering == {Outcome.DELIVERED: 1}


async def test_what_a_refused_poll_leaves_for_an_operator_is_one_line(
    ledger: Ledger, server_url: str
) -> None:
    relay = Relay(ledger)
    relay.source.add(3)
    with failing(server_url, ["insert"], errorCode=8000), pytest.raises(LedgerRefused) as refused:
        await relay.polling().poll(relay.feed)
    left = (await ledger.cursors.get("orders")).last_error
    assert left == str(refused.value)
    assert _is_one_plain_line(left)


async def test_what_a_refused_tick_leaves_for_an_operator_is_one_line(
    ledger: Ledger, server_url: str
) -> None:
    office = Office(ledger, jobs=(REPORT_HOUR,))
    office.at("2026-01-01T12:30")
    await office.worker().run(REPORT_HOUR.name)
    office.at("2026-01-01T13:05")
    with (
        failing(server_url, ["count", "aggregate"], errorCode=8000),
        pytest.raises(LedgerRefused) as refused,
    ):
        await ledger.state_counts.indexed()
    office.failing["all"] = refused.value
    await office.worker().run(REPORT_HOUR.name)
    (tick, *_) = await ledger.ticks.open(REPORT_HOUR.name)
    assert tick.error is not None
    assert str(refused.value) in tick.error
    assert _is_one_plain_line(tick.error)


ENDS_THE_SERVER = {
    65, 121, 150, 169, 227, 236, 249, 271, 283, 284, 330, 343, 346, 347, 348, 351, 356, 359, 361, 11000, 13388,
}  # fmt: skip
"""Most are codes that the server gives only with a document beside them; told to give one without,
it ends itself.
"""
NOT_ASKED = ENDS_THE_SERVER | helpers_shared._NOT_PRIMARY_CODES
"""After one of the latter the driver takes the server for lost until its next heartbeat."""


def test_every_code_that_the_server_has_a_name_for_is_judged(server_url: str) -> None:
    judged = PASSING.keys() | PERMANENT.keys()
    unjudged = {}
    with Client(server_url, retryReads=False, appname="judge") as client:
        for code in sorted((set(range(1, 500)) | judged) - NOT_ASKED):
            data = {"failCommands": ["ping"], "appName": "judge", "errorCode": code}
            client.admin.command(
                {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
            )
            name = _ping(client).get("codeName", "Location")
            if not name.startswith("Location") and code not in judged:
                unjudged[code] = name
    assert unjudged == {}
    assert judged >= NOT_ASKED


def _ping(client: Any) -> Mapping[str, Any]:
    """The answer to `ping`, whatever it is."""
    try:
        return dict(client.admin.command("ping"))
    except PyMongoError as error:
        details = getattr(error, "details", None)
        return details if isinstance(details, dict) else {}
