"""Retention: what is over leaves, once; what is owed or not seen to stays; deliveries come first."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.core.states import State
from app.feeds.feed import Feed, Rate
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.replay import Replaying
from app.reports.files import Format, path_of, write_whole
from app.reports.record import ALL
from app.reports.reporting import Reporting
from app.retention.purge import ANOTHER
from app.retention.run import Purged
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.retention import LEASE, Shelf, kept_feed
from tests.support.steps import Crashed, Fate, Kind, Steps

FEED = kept_feed()
SETTLED = (State.DELIVERED, State.CANCELLED, State.SKIPPED)


@pytest.fixture
async def shelf(ledger: Ledger) -> Shelf:
    return Shelf(ledger, VirtualClock(), feeds={"orders": FEED})


# --- what leaves, and when


@pytest.mark.parametrize("state", SETTLED)
async def test_a_payload_leaves_after_its_days_and_the_record_stays(
    shelf: Shelf, state: State
) -> None:
    await shelf.add(1, shelf.ago(days=7, minutes=1), state)
    await shelf.add(2, shelf.ago(days=6, hours=23), state)
    purged = await shelf.purging().purge(FEED)
    assert (purged.payloads, purged.records) == (1, 0)
    first, second = await shelf.get(1), await shelf.get(2)
    assert first is not None
    assert second is not None
    assert "payload" not in first
    assert second["payload"]
    assert await shelf.attempts_left() == {"orders:1", "orders:2"}


async def test_what_has_no_payload_any_more_is_not_replayed_and_says_why(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=8))
    await shelf.purging().purge(FEED)
    replaying = Replaying(
        shelf.ledger, MemoryQueue(), shelf.feeds, message_wait=LEASE, now=shelf.clock
    )
    selection = Selection((State.DELIVERED,), feeds=("orders",))
    account = await replaying.replay(selection, Rate(count=9, per_seconds=1), By("x"))
    assert (account.moved, dict(account.skipped)) == (0, {"no payload": 1})


@pytest.mark.parametrize("state", SETTLED)
async def test_a_record_leaves_with_its_attempts_once_its_day_is_over(
    shelf: Shelf, state: State
) -> None:
    today = shelf.clock().replace(hour=0)
    await shelf.add(1, today - timedelta(days=30, seconds=1), state)
    await shelf.add(10, today - timedelta(days=30), state)
    purged = await shelf.purging().purge(FEED)
    assert (purged.records, purged.attempts) == (1, 2)
    assert await shelf.ids() == await shelf.attempts_left() == {"orders:10"}


async def test_what_is_open_or_dead_and_not_acknowledged_stays_whole_for_ever(shelf: Shelf) -> None:
    for key, state in enumerate((State.QUEUED, State.RETRYING, State.DEAD)):
        await shelf.add(key, shelf.ago(days=3000), state, next_attempt_at=shelf.ago(days=2999))
    purged = await shelf.purging().purge(kept_feed(payload_days=0, days=1))
    assert (purged.payloads, purged.records) == (0, 0)
    assert all([(await shelf.get(key) or {})["payload"] for key in range(3)])


async def test_an_acknowledged_dead_letter_leaves_counted_from_when_it_was_acknowledged(
    shelf: Shelf,
) -> None:
    for key, days in ((1, 29), (2, 32)):
        acknowledged = {"at": shelf.ago(days=days), "by": "ada"}
        await shelf.add(key, shelf.ago(days=90), State.DEAD, acknowledged=acknowledged)
    purged = await shelf.purging().purge(FEED)
    assert (purged.payloads, purged.records) == (2, 1)
    assert await shelf.ids() == {"orders:1"}


async def test_other_feeds_keep_theirs(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=90), feed="orders2")
    await shelf.purging().purge(FEED)
    assert await shelf.ids("orders2") == await shelf.attempts_left("orders2") == {"orders2:1"}


async def test_where_payloads_are_kept_as_long_as_records_they_leave_together(shelf: Shelf) -> None:
    feed = kept_feed(payload_days=30)
    await shelf.add(1, shelf.ago(days=30, minutes=1))
    assert (await shelf.purging().purge(feed)).payloads == 0
    shelf.clock.advance(timedelta(days=1))
    assert (await shelf.purging().purge(feed)).records == 1


async def test_day_after_day_each_leaves_in_its_turn_and_the_marks_hide_nothing(
    shelf: Shelf,
) -> None:
    for key in range(10):
        await shelf.add(key, shelf.ago(days=35 - key))
    left = []
    for _ in range(6):
        await shelf.purging().purge(FEED)
        left.append(len(await shelf.ids()))
        shelf.clock.advance(timedelta(days=1))
    assert left == [5, 4, 3, 2, 1, 0]
    await shelf.add("dated back by a wrong clock", shelf.ago(days=200))
    assert (await shelf.purging().purge(FEED)).records == 1


async def test_payloads_that_leave_at_once_do_and_late_ones_too(shelf: Shelf) -> None:
    feed = kept_feed(payload_days=0)
    await shelf.add(1, shelf.ago(minutes=1))
    assert (await shelf.purging().purge(feed)).payloads == 1
    await shelf.add(
        2, shelf.ago(hours=3)
    )  # a cancel that took three hours, under the moment it began
    assert (await shelf.purging().purge(feed)).payloads == 1


async def test_a_dry_run_counts_the_same_and_changes_nothing(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.add(2, shelf.ago(days=10))
    await shelf.add(3, shelf.ago(days=40), restored_at=shelf.ago(days=2))
    would = await shelf.purging().purge(FEED, dry_run=True)
    assert len(await shelf.ids()) == 3
    did = await shelf.purging().purge(FEED)
    assert (would.records, did.records) == (1, 1)
    assert (would.payloads, did.payloads) == (3, 2), (
        "of a restored one the payload goes with the record"
    )


# --- what must not be lost meanwhile


async def test_what_is_replayed_while_a_purge_has_it_in_hand_stays_with_its_attempts(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (1, 2):
        await shelf.add(key, shelf.ago(days=40))
    steps = Steps(Fate())
    dropping = shelf.purging(steps)
    take = steps.take

    async def replayed_before_the_drop(name: str, *rest: Any) -> Any:
        if name == "drop":
            await shelf.change(1, state="queued", finished_at=None, replayed_at=shelf.clock())
        return await take(name, *rest)

    monkeypatch.setattr(steps, "take", replayed_before_the_drop)
    assert (await dropping.purge(kept_feed(payload_days=30))).records == 1
    assert await shelf.ids() == await shelf.attempts_left() == {"orders:1"}


@pytest.mark.parametrize("archived", [False, True])
async def test_a_row_that_is_seen_elsewhere_meanwhile_is_below_the_floor_when_its_record_goes(
    shelf: Shelf, archived: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else reconciliation would take it for missing, and deliver it again."""
    shelf.archive_dir = tmp_path if archived else None
    await shelf.add("a", shelf.ago(days=40), position=["0x00000000000007D1", "a"])
    steps = Steps(Fate())
    take = steps.take

    async def updated_before_the_drop(name: str, *rest: Any) -> Any:
        if name == "drop":
            await shelf.change("a", position=["0x00000000000007FF", "a"])
        return await take(name, *rest)

    monkeypatch.setattr(steps, "take", updated_before_the_drop)
    await shelf.purging(steps).purge(FEED)
    await shelf.purging().purge(FEED)
    assert await shelf.ids() == set()
    floor = await shelf.ledger.purge_watermarks.get("orders")
    assert floor is not None
    assert floor.covers(["0x00000000000007FF", "a"])


async def test_the_floor_is_raised_before_anything_is_deleted_and_never_sinks(shelf: Shelf) -> None:
    for key in (5, 7, 6):
        await shelf.add(key, shelf.ago(days=40 - key))
    steps: list[str] = []
    await shelf.purging(Steps(Fate(), lambda name, *_: steps.append(name))).purge(FEED)
    assert steps.index("raise_to") < steps.index("drop")
    floor = await shelf.ledger.purge_watermarks.get("orders")
    assert floor is not None
    assert (floor.position, floor.logged_before) == (
        7,
        shelf.ago(days=33) + timedelta(milliseconds=1),
    )
    assert [floor.covers(position) for position in (6, 7, 8)] == [True, True, False]
    assert await shelf.ledger.purge_watermarks.raise_to("orders", shelf.ago(days=99), 3) == floor


async def test_without_anything_purged_there_is_no_floor(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=10))
    await shelf.purging().purge(FEED)
    assert await shelf.ledger.purge_watermarks.get("orders") is None


async def test_two_at_once_purge_each_record_once(shelf: Shelf) -> None:
    for key in range(30):
        await shelf.add(key, shelf.ago(days=40))
    both = await asyncio.gather(shelf.purging().purge(FEED), shelf.purging().purge(FEED))
    assert sorted(one.records for one in both) == [0, 30]
    assert [one.stopped for one in both].count(ANOTHER) == 1


async def test_a_second_waits_for_the_first_where_it_is_told_to(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    await shelf.ledger.purges.claim("orders", "killed:7", shelf.clock(), LEASE)
    told: list[str] = []

    async def sleep(_: float) -> None:
        shelf.clock.advance(timedelta(seconds=20))

    purging = shelf.purging()
    purging._lock._sleep = sleep
    purged = await purging.purge(FEED, patience=LEASE, progress=lambda _, doing: told.append(doing))
    assert purged.records == 1
    assert told[0] == "feed orders: killed:7 is purging it, or was killed while purging"


async def test_wherever_it_dies_the_next_run_finishes_it_and_no_attempt_is_forgotten(
    shelf: Shelf, small_chunks: None
) -> None:
    del small_chunks
    step, crashed = 0, True
    while crashed:
        step += 1
        feed = kept_feed(f"orders-{step}", payload_days=30)
        for key in range(5):
            await shelf.add(key, shelf.ago(days=32 - key // 3), feed=feed.name)
        await shelf.add(9, shelf.ago(days=29), feed=feed.name)
        crashed = await _crashes(shelf, feed, step)
        await shelf.purging().purge(feed)
        assert (
            await shelf.ids(feed.name) == await shelf.attempts_left(feed.name) == {f"{feed.name}:9"}
        )
    assert step > 20


async def test_wherever_it_dies_the_next_run_drops_the_payloads_that_are_left(
    shelf: Shelf, small_chunks: None
) -> None:
    del small_chunks
    step, crashed = 0, True
    while crashed:
        step += 1
        feed = kept_feed(f"orders-{step}")
        for key in range(5):
            await shelf.add(key, shelf.ago(days=8 - key // 3, minutes=1), feed=feed.name)
        await shelf.add(9, shelf.ago(days=6), feed=feed.name)
        crashed = await _crashes(shelf, feed, step)
        await shelf.purging().purge(feed)
        left = [
            key for key in (*range(5), 9) if "payload" in (await shelf.get(key, feed.name) or {})
        ]
        assert left == [9]
    assert step > 20


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("SIZE_LIMIT", "_FIRST_SIZE", "_LEAST_SIZE"):
        monkeypatch.setattr(f"app.retention.pace.{bound}", 2)


async def _crashes(shelf: Shelf, feed: Feed, step: int) -> bool:
    """Purge, and die at that step. Returns whether it came to that."""
    try:
        await shelf.purging(Steps(Fate(Kind.CRASH, step, after=True))).purge(feed)
    except Crashed:
        shelf.clock.advance(2 * LEASE)
        return True
    return False


async def test_a_run_that_was_frozen_until_another_took_over_stops(shelf: Shelf) -> None:
    await shelf.add(1, shelf.ago(days=40))
    steps = Steps(Fate(Kind.FREEZE, 9))
    frozen = asyncio.create_task(shelf.purging(steps).purge(FEED))
    await steps.frozen.wait()
    shelf.clock.advance(2 * LEASE)
    await shelf.purging().purge(FEED)
    steps.thaw()
    purged: Purged = await frozen
    assert purged.stopped == ANOTHER
    assert await shelf.ids() == set()


# --- reports, certificates, minutes


async def test_minutes_reports_and_certificates_leave_in_their_own_time(shelf: Shelf) -> None:
    feed = kept_feed(stats_days=60, report_days=365)
    shelf.feeds = {"orders": feed, "slow": kept_feed("slow", report_days=1000)}
    for days in (61, 59):
        await shelf.ledger.stats.add_logged("orders", 1, shelf.ago(days=days))
    await _add_reports(shelf, "orders", 366, 364)
    await _add_reports(shelf, "*", 1001, 366)
    assert (await shelf.purging().purge(feed)).stats == 1
    assert await shelf.purging().purge_reports() == (1 + 1 + 1 + 1, 0)
    assert await _left(shelf, "stats") == {"orders": 1}
    assert await _left(shelf, "reports") == {"orders": 1, "*": 1}
    assert await _left(shelf, "certificates") == {"orders": 1, "*": 1}


def _report_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*/*")}


async def test_the_files_of_reports_leave_with_them(shelf: Shelf, tmp_path: Path) -> None:
    shelf.feeds = {
        "orders": kept_feed("orders", report_days=365),
        "slow": kept_feed("slow", report_days=1000),
    }
    old, young = (f"{shelf.ago(days=days):%Y-%m-%d}" for days in (366, 364))
    for feed in ("orders", "slow", ALL):
        for day in (old, young):
            write_whole(path_of(tmp_path, feed, day, Format.HTML), b"<p>")
    before = _report_files(tmp_path)
    reporting = Reporting(shelf.ledger, shelf.feeds, zone=ZoneInfo("UTC"), folder=tmp_path)
    assert (await shelf.purging(prune_files=reporting.prune).purge_reports()).files == 1
    assert before - _report_files(tmp_path) == {f"orders/{old}.html"}


async def test_the_last_certificate_stays_however_old(shelf: Shelf) -> None:
    await _add_reports(shelf, "orders", 5000)
    await shelf.purging().purge_reports()
    assert await _left(shelf, "certificates") == {"orders": 1}


async def _add_reports(shelf: Shelf, feed: str, *days_ago: int) -> None:
    for days in days_ago:
        at = shelf.ago(days=days)
        report: Document = {"_id": f"{feed}|{at:%Y-%m-%d}", "feed": feed, "end": at}
        certificate: Document = {
            "_id": f"{feed}|{at.astimezone(UTC).isoformat()}",
            "feed": feed,
            "at": at,
        }
        await shelf.ledger._database["reports"].insert_one(report)
        await shelf.ledger._database["certificates"].insert_one(certificate)


async def _left(shelf: Shelf, collection: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for document in await shelf.ledger._database[collection].find({}).to_list():
        found[document["feed"]] = found.get(document["feed"], 0) + 1
    return found
