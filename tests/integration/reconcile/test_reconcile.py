"""Reconciliation: what is missing is found by key and logged, what is not lost is never taken for
it, the sum balances.

On SQLite always, and on the T-SQL server that TEST_MSSQL_URL names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.clock import utc_now
from app.core.errors import SourceRefused
from app.core.states import State
from app.ledger import Ledger
from app.operations.by import By
from app.operations.rewind import Rewinding
from app.reconcile import bounds
from tests.support.reconciled import Shop, counted, open_shop, sums
from tests.support.sources import PRODUCTS

STRATEGIES = pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])
MOVING = pytest.mark.parametrize("strategy", ["rowversion", "timestamp"])


@pytest.fixture(params=PRODUCTS)
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, ledger: Ledger
) -> AsyncIterator[Shop]:
    async with open_shop(request.param, tmp_path, ledger) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that a few rows reach them."""
    monkeypatch.setattr(bounds, "WINDOW", 10)
    monkeypatch.setattr(bounds, "CHUNK", 4)
    monkeypatch.setattr(bounds, "STRIDE", 6)


@STRATEGIES
async def test_a_feed_that_lost_nothing_balances(shop: Shop, strategy: str) -> None:
    shop.feed_by(strategy, filter=[{"column": "note", "op": "!=", "value": "test"}])
    await shop.write(*range(1, 31))
    await shop.write(31, 32, 33, note="test")
    await shop.poll()
    await shop.deliver(*range(1, 21))
    await shop.deliver(21, 22, state=State.DEAD)
    await shop.deliver(23, state=State.CANCELLED)
    certificate = await shop.reconcile()
    assert sums(certificate) == (33, 0, 0)
    assert counted(certificate) == {
        "queued": 7,
        "delivered": 20,
        "dead": 2,
        "cancelled": 1,
        "skipped": 3,
    }
    assert (certificate.complete, certificate.open, certificate.deleted) == (True, 7, 0)
    assert certificate.position == (await shop.cursor()).position
    assert await shop.ledger.certificates.latest("orders") == certificate


@STRATEGIES
async def test_deleted_deliveries_and_skipped_rows_are_found_and_queued(
    shop: Shop, strategy: str
) -> None:
    """37 deliveries deleted behind the system's back, and a cursor that passed over 5 rows."""
    shop.feed_by(strategy)
    await shop.write(*range(1, 101))
    await shop.poll()
    await shop.deliver()
    lost = range(20, 57)
    await shop.lose(*lost)
    await shop.write(*range(101, 106), at="2026-01-02 10:00:00")
    last = (await shop.source.begin(shop.feed, "now", utc_now())).position
    await shop.put_cursor(last)

    looked = await shop.reconcile(dry_run=True)
    assert sums(looked) == (105, 42, 0)
    assert not looked.complete
    assert await shop.logged() == set(range(1, 101)) - set(lost)
    assert await shop.ledger.certificates.latest("orders") is None

    healed = await shop.reconcile()
    assert sums(healed) == (105, 42, 42)
    assert set(healed.missing_ids) == set(shop.ids(*lost, *range(101, 106)))
    assert counted(healed) == {"queued": 42, "delivered": 63}
    assert healed.complete
    assert await shop.queued_once() == sorted(healed.missing_ids)
    payloads = {
        d["_id"]: d["payload"] for d in await shop.deliveries.find({"state": "queued"}).to_list()
    }
    assert '"note":"new"' in payloads["orders:20"]

    await shop.deliver()
    again = await shop.reconcile()
    assert sums(again) == (105, 0, 0)
    assert counted(again) == {"delivered": 105}


@STRATEGIES
async def test_what_is_missing_is_logged_as_a_poll_would_log_it(shop: Shop, strategy: str) -> None:
    shop.feed_by(
        strategy, filter=[{"column": "note", "op": "!=", "value": "test"}], max_payload=200
    )
    await shop.write(1)
    await shop.write(2, note="test")
    await shop.write(3, note="x" * 99 + "€")
    shop.feed_by(
        strategy, filter=[{"column": "note", "op": "!=", "value": "test"}], max_payload=150
    )
    await shop.poll()
    before = (
        await shop.deliveries.find({}, {"created_at": 0, "finished_at": 0, "batch": 0})
        .sort("_id", 1)
        .to_list()
    )
    await shop.lose(1, 2, 3)
    certificate = await shop.reconcile()
    assert counted(certificate) == {"queued": 1, "skipped": 1, "dead": 1}
    after = (
        await shop.deliveries.find({}, {"created_at": 0, "finished_at": 0, "batch": 0})
        .sort("_id", 1)
        .to_list()
    )
    assert after == before


@STRATEGIES
async def test_rows_that_no_poll_has_read_yet_are_none_of_its_business(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy)
    assert sums(await shop.reconcile()) == (0, 0, 0)
    await shop.write(1, 2)
    await shop.poll()
    await shop.write(3, 4, at="2026-01-02 10:00:00")
    assert sums(await shop.reconcile()) == (2, 0, 0)
    assert await shop.logged() == {1, 2}


async def test_a_late_row_in_an_open_gap_is_still_owed_by_the_cursor(shop: Shop) -> None:
    shop.feed_by("identity", cursor_start=0)
    await shop.write(1, 2, 5)
    await shop.poll()
    await shop.write(3, 4)
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.awaited) == (3, 0, 0, 2)
    assert await shop.logged() == {1, 2, 5}
    await shop.poll()
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.awaited) == (5, 0, 0, 0)


async def test_a_late_row_whose_gap_was_given_up_is_found(shop: Shop) -> None:
    shop.feed_by("identity", cursor_start=0, cursor_gap_timeout="1ms")
    await shop.write(1, 2, 5)
    await shop.poll()
    await shop.poll()
    assert (await shop.cursor()).gaps == ()
    await shop.write(3, 4)
    assert sums(await shop.reconcile()) == (5, 2, 2)


@STRATEGIES
async def test_deleted_rows_are_counted_by_state_and_are_no_loss(shop: Shop, strategy: str) -> None:
    shop.feed_by(strategy)
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.deliver(*range(1, 26))
    await shop.deliver(26, state=State.DEAD)
    await shop.delete_rows(3, 4, 5, 26, 27)
    certificate = await shop.reconcile()
    assert sums(certificate) == (25, 0, 0)
    assert (certificate.complete, certificate.deleted) == (True, 5)
    assert certificate.deleted_states == {State.DELIVERED: 3, State.DEAD: 1, State.QUEUED: 1}


@STRATEGIES
async def test_deleted_and_lost_rows_at_once_are_told_apart(shop: Shop, strategy: str) -> None:
    """As many deliveries without a row as rows without a delivery: the totals are equal."""
    shop.feed_by(strategy)
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.delete_rows(3, 4)
    await shop.lose(20, 21)
    certificate = await shop.reconcile()
    assert sums(certificate) == (28, 2, 2)
    assert certificate.deleted == 2
    assert certificate.missing_ids == tuple(shop.ids(20, 21))


@MOVING
async def test_an_updated_row_is_the_same_delivery_wherever_it_stands(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy)
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.tables.touch("orders", 5)
    moved = f"UPDATE {shop.tables.named('orders')} SET at = '2026-01-03 10:00:00' WHERE id = 6"  # noqa: S608 - names of ours
    await shop.tables.run(moved)
    certificate = await shop.reconcile()
    assert (certificate.missing, certificate.deleted) == (0, 0)
    await shop.poll()
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.deleted) == (30, 0, 0, 0)


async def test_each_change_is_a_delivery_and_older_ones_are_superseded_not_deleted(
    shop: Shop,
) -> None:
    shop.feed_by("rowversion", capture="changes")
    await shop.write(*range(1, 13))
    await shop.poll()
    for _ in range(2):
        await shop.tables.touch("orders", 5)
        await shop.poll()
    await shop.tables.touch("orders", 6)
    await shop.poll()
    await shop.delete_rows(1)
    certificate = await shop.reconcile()
    assert sums(certificate) == (11, 0, 0)
    assert (certificate.superseded, certificate.deleted, certificate.complete) == (3, 1, True)
    newest = await shop.deliveries.find({"key": "5"}).sort("_id", -1).limit(1).to_list()
    await shop.deliveries.delete_one({"_id": newest[0]["_id"]})
    certificate = await shop.reconcile()
    assert sums(certificate) == (11, 1, 1)
    assert certificate.missing_ids == (newest[0]["_id"],)


@STRATEGIES
async def test_a_row_that_retention_may_have_purged_is_left_out_and_counted(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy)
    for number in range(1, 31):
        await shop.write(number, at=f"2026-01-01 10:00:{number:02}")
    await shop.poll()
    await shop.deliver()
    floor = (await shop.deliveries.find_one({"_id": "orders:20"}))["position"]
    await shop.ledger.purge_watermarks.raise_to("orders", utc_now(), floor)
    await shop.lose(*range(1, 21))
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.purged) == (10, 0, 0, 20)
    assert await shop.logged() == set(range(21, 31))
    assert (certificate.deleted, certificate.complete) == (0, True)


@pytest.mark.parametrize(
    ("since", "rows", "purged"), [(None, 10, 20), (15, 10, 5), (20, 10, 0), (25, 5, 0)]
)
async def test_of_a_part_only_what_lies_in_it_is_said_to_be_purged(
    shop: Shop, since: int | None, rows: int, purged: int
) -> None:
    shop.feed_by("identity")
    for number in range(1, 31):
        await shop.write(number)
    await shop.poll()
    await shop.deliver()
    await shop.ledger.purge_watermarks.raise_to("orders", utc_now(), 20)
    await shop.lose(*range(1, 21))
    certificate = await shop.reconcile(since=since)
    assert (*sums(certificate), certificate.purged) == (rows, 0, 0, purged)


@STRATEGIES
async def test_a_row_that_is_purged_while_it_is_looked_up_is_not_delivered_again(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy)
    for number in range(1, 9):
        await shop.write(number, at=f"2026-01-01 10:00:{number:02}")
    await shop.poll()
    await shop.deliver()
    position = (await shop.deliveries.find_one({"_id": "orders:4"}))["position"]
    walk = shop.source.walk

    async def purging(*arguments: Any) -> Any:
        window = await walk(*arguments)
        await shop.ledger.purge_watermarks.raise_to("orders", utc_now(), position)
        await shop.lose(1, 2, 3, 4)
        return window

    shop.source.walk = purging  # type: ignore[assignment, method-assign] # what happens between two steps
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.purged) == (4, 0, 0, 4)
    assert await shop.logged() == {5, 6, 7, 8}


@MOVING
async def test_the_floor_covers_a_row_where_it_stands_now(shop: Shop, strategy: str) -> None:
    """A row that was updated since it was logged: what is purged is noted by where the row was last
    seen.
    """
    shop.feed_by(strategy)
    await shop.write(1, 2)
    await shop.poll()
    await shop.deliver()
    first = (await shop.deliveries.find_one({"_id": "orders:1"}))["position"]
    await shop.tables.touch("orders", 1)
    await shop.tables.run(
        f"UPDATE {shop.tables.named('orders')} SET at = '2026-01-03 10:00:00' WHERE id = 1"  # noqa: S608 - names of ours
    )
    await shop.poll()
    seen = await shop.deliveries.find_one({"_id": "orders:1"})
    assert seen["position"] != first
    assert seen["seen_at"] >= seen["created_at"]
    assert "seen_at" not in await shop.deliveries.find_one({"_id": "orders:2"})
    await shop.ledger.purge_watermarks.raise_to("orders", utc_now(), seen["position"])
    await shop.lose(1)
    certificate = await shop.reconcile()
    assert certificate.missing == 0
    assert await shop.logged() == {2}


@STRATEGIES
async def test_rows_before_the_start_are_not_owed(shop: Shop, strategy: str) -> None:
    shop.feed_by(strategy, cursor_start="now")
    await shop.write(1, 2, 3)
    await shop.poll()
    await shop.write(4, 5, 6, at="2026-01-02 10:00:00")
    await shop.poll()
    await shop.lose(5)
    certificate = await shop.reconcile()
    assert sums(certificate) == (3, 1, 1)
    assert await shop.logged() == {4, 5, 6}


@STRATEGIES
async def test_rows_that_an_operator_passed_over_are_not_owed_and_each_row_counts_once(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy)
    rewinding = Rewinding(shop.source, shop.ledger)
    await shop.write(1, 2, 3)
    await shop.poll()
    third = (await shop.cursor()).position
    await shop.write(4, 5, 6, at="2026-01-02 10:00:00")
    await rewinding.rewind(shop.feed, "now", By("ada@desk"))
    await shop.write(7, 8, 9, at="2026-01-03 10:00:00")
    await shop.poll()
    await shop.lose(2, 8)
    certificate = await shop.reconcile()
    assert sums(certificate) == (6, 2, 2)
    assert await shop.logged() == {1, 2, 3, 7, 8, 9}

    await rewinding.rewind(shop.feed, "beginning", By("ada@desk"))
    await shop.put_cursor(third)
    assert sums(await shop.reconcile()) == (3, 0, 0)
    await shop.poll()
    assert sums(await shop.reconcile()) == (9, 0, 0)


async def test_a_row_in_two_stretches_counts_once(shop: Shop) -> None:
    shop.feed_by("identity")
    rewinding = Rewinding(shop.source, shop.ledger)
    await shop.write(*range(1, 41))
    await shop.poll()
    await rewinding.rewind(shop.feed, 15, By("ada@desk"))
    await shop.write(41)
    await shop.poll()
    await shop.lose(3, 20)
    assert sums(await shop.reconcile()) == (41, 2, 2)


async def test_where_reading_began_must_be_known(shop: Shop) -> None:
    shop.feed_by("identity", cursor_start="now")
    await shop.write(1, 2, 3)
    await shop.poll()
    await shop.write(4, 5)
    await shop.poll()
    await shop.ledger._database["cursors"].update_one({}, {"$unset": {"spans": ""}})
    with pytest.raises(SourceRefused, match="--since"):
        await shop.reconcile()
    assert sums(await shop.reconcile(since=3)) == (2, 0, 0)


@STRATEGIES
async def test_a_where_is_looked_at_as_a_poll_does(shop: Shop, strategy: str) -> None:
    shop.feed_by(strategy, where=[{"column": "note", "op": "=", "value": "paid"}])
    await shop.write(*range(1, 21))
    await shop.write(*range(21, 31), note="paid")
    await shop.poll()
    await shop.lose(25)
    certificate = await shop.reconcile()
    assert sums(certificate) == (10, 1, 1)
    assert await shop.logged() == set(range(21, 31))
    floor = (await shop.deliveries.find_one({"_id": "orders:24"}))["position"]
    await shop.ledger.purge_watermarks.raise_to("orders", utc_now(), floor)
    certificate = await shop.reconcile()
    assert certificate.purged == (10 if strategy == "timestamp" else 4), (
        "rows of one moment are left out together"
    )
    assert certificate.source_rows + certificate.purged == 10


async def test_keys_of_several_parts_and_types_are_found_again(shop: Shop) -> None:
    await shop.tables.make("keyed", k="NVARCHAR", tenant="GUID", n="DECIMAL(12,2)", at="MOMENT")
    keys = ["b", "A", "ä-1", "a b", "größer 😀", "it's", "x:y", "50%"]
    tenant = "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"
    rows = [
        {"k": key, "tenant": tenant, "n": n, "at": "2026-01-01 10:00:00"}
        for key in keys
        for n in (1, 2)
    ]
    await shop.tables.insert("keyed", rows)
    shop.feed_by("timestamp", table="keyed", key=["k", "tenant", "n"])
    await shop.poll()
    everything = {document["_id"] for document in await shop.deliveries.find().to_list()}
    assert len(everything) == len(rows)
    await shop.tables.run(f"DELETE FROM {shop.tables.named('keyed')} WHERE k = 'x:y'")  # noqa: S608 - names of ours
    await shop.deliveries.delete_many({"_id": {"$regex": "orders:(A|%C3%A4)"}})
    certificate = await shop.reconcile()
    assert (*sums(certificate), certificate.deleted) == (14, 4, 4, 2)
    assert {document["_id"] for document in await shop.deliveries.find().to_list()} == everything


async def test_a_row_without_identity_is_a_dead_letter_again(shop: Shop) -> None:
    await shop.tables.make("keyed", k="INT", tenant="INT", at="MOMENT")
    pairs = [(None, 1), (1, None), (1, 1)]
    await shop.tables.insert(
        "keyed", [{"k": k, "tenant": n, "at": "2026-01-01 10:00:00"} for k, n in pairs]
    )
    shop.feed_by("timestamp", table="keyed", key=["k", "tenant"])
    await shop.poll()
    before = await shop.deliveries.find({}, {"_id": 1, "state": 1}).sort("_id", 1).to_list()
    await shop.deliveries.delete_many({"state": "dead"})
    certificate = await shop.reconcile()
    assert sums(certificate) == (3, 2, 2)
    assert counted(certificate) == {"queued": 1, "dead": 2}
    assert await shop.deliveries.find({}, {"_id": 1, "state": 1}).sort("_id", 1).to_list() == before
    await shop.tables.run(f"DELETE FROM {shop.tables.named('keyed')} WHERE k = 1")  # noqa: S608 - names of ours
    assert (await shop.reconcile()).deleted_states == {State.QUEUED: 1}


async def test_healing_stops_at_the_backlog_and_the_next_run_goes_on(shop: Shop) -> None:
    shop.feed_by("identity", max_backlog=12)
    await shop.write(*range(1, 31))
    while len(await shop.logged()) < 30:
        await shop.poll()
        await shop.deliver()
        await shop.ledger._database["batches"].delete_many({})
    await shop.lose(*range(1, 31))
    first = await shop.reconcile()
    assert first.missing == 30
    assert 12 <= first.healed < 30
    assert not first.complete
    assert first.unaccounted == 30 - first.healed
    for _ in range(5):
        await shop.deliver()
        await shop.ledger._database["batches"].delete_many({})
        last = await shop.reconcile()
    assert last.complete
    assert sums(last)[0] == 30


async def test_a_run_that_nobody_watches_heals_so_many_at_most(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.lose(*range(1, 31))
    certificate = await shop.reconciling(heal_at_most=4).reconcile(shop.feed)
    assert sums(certificate) == (30, 30, 4)


async def test_since_goes_back_to_a_certificate_or_a_position(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 11))
    await shop.poll()
    whole = await shop.reconcile()
    await shop.write(*range(11, 16))
    await shop.poll()
    await shop.lose(2, 12)
    recent = await shop.reconcile(since=timedelta(0))
    assert (*sums(recent), recent.since) == (5, 1, 1, 10)
    by_position = await shop.reconcile(since=13)
    assert (*sums(by_position), by_position.since) == (2, 0, 0, 13)
    assert await shop.ledger.certificates.latest("orders") == whole, (
        "that of a part proves nothing of the rest"
    )
    long_ago = await shop.reconcile(since=timedelta(days=7))
    assert (*sums(long_ago), long_ago.since) == (15, 1, 1, None)


async def test_progress_is_told(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.delete_rows(1)
    told: list[tuple[str, int, int | None]] = []
    await shop.reconcile(progress=lambda *now: told.append(now))
    assert ("source rows", 29, 30) in told
    assert ("deliveries", 30, 30) in told


async def test_a_dry_run_changes_nothing_at_all(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.lose(5)
    await shop.delete_rows(6)
    database = shop.ledger._database

    async def everything() -> dict[str, Any]:
        names = sorted(await database.list_collection_names())
        return {name: await database[name].find().sort("_id", 1).to_list() for name in names}

    before = await everything()
    certificate = await shop.reconcile(dry_run=True)
    assert (*sums(certificate), certificate.deleted) == (29, 1, 0, 1)
    assert await everything() == before
