"""What a certificate vouches for: rows and not keys, what they hold now, and the source that they
came from.

On SQLite always, and on the T-SQL server that TEST_MSSQL_URL names.
"""

# S608: the tests write SQL of their own, from their own constants.

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.certificates import Certificate, DiscrepancyKind
from app.core.states import State
from app.intake.poll import Polling
from app.ledger import Ledger
from app.reconcile import bounds
from app.source import plans
from tests.support.doubles import VirtualClock
from tests.support.reconciled import WAIT, Shop, open_shop, sums
from tests.support.sources import PRODUCTS, source_feed

STRATEGIES = pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])
MOVING = pytest.mark.parametrize("strategy", ["rowversion", "timestamp"])


@pytest.fixture(params=PRODUCTS)
async def shop(
    request: pytest.FixtureRequest, tmp_path: Path, ledger: Ledger
) -> AsyncIterator[Shop]:
    async with open_shop(request.param, tmp_path, ledger, code="NVARCHAR") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WINDOW", 10)
    monkeypatch.setattr(bounds, "CHUNK", 4)


def named(certificate: Certificate) -> dict[DiscrepancyKind, tuple[int, set[str]]]:
    """Kind → how many, and which."""
    return {found.kind: (found.count, set(found.ids)) for found in certificate.discrepancies}


async def edit(shop: Shop, change: str, where: str) -> None:
    """Behind the system's back."""
    await shop.tables.run(f"UPDATE {shop.tables.named('orders')} SET {change} WHERE {where}")  # noqa: S608 - names of ours


# --- what rows hold


@STRATEGIES
async def test_a_row_that_holds_something_else_than_what_was_sent_is_named(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy, columns=["id", "note"])
    await shop.write(*range(1, 31))
    await shop.poll()
    await shop.deliver()
    assert (await shop.reconcile()).complete
    await edit(shop, "note = 'other'", "id IN (3, 17)")
    await shop.poll()
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.CHANGED: (2, {"orders:3", "orders:17"})}
    assert sums(certificate) == (30, 0, 0)
    assert not certificate.complete
    assert any("2 source rows hold something else" in said for said in certificate.remarks)
    await edit(shop, "note = 'new'", "id IN (3, 17)")
    await shop.poll()
    assert (await shop.reconcile()).complete


async def test_changes_that_are_acknowledged_are_compared_with_from_then_on(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1, 2, 3)
    await shop.poll()
    await edit(shop, "note = 'other'", "id IN (1, 2)")
    looked = await shop.reconcile(dry_run=True, acknowledge="operator")
    assert named(looked) == {DiscrepancyKind.CHANGED: (2, {"orders:1", "orders:2"})}, (
        "a dry run changes nothing"
    )
    certificate = await shop.reconcile(acknowledge="operator")
    assert (certificate.complete, certificate.acknowledged) == (True, 2)
    delivery = await shop.ledger.deliveries.get("orders:1")
    assert delivery is not None
    assert delivery["content_acknowledged"]["by"] == "operator"
    assert (await shop.reconcile()).complete
    await edit(shop, "note = 'third'", "id = 1")
    assert named(await shop.reconcile()) == {DiscrepancyKind.CHANGED: (1, {"orders:1"})}


async def test_what_was_sent_is_known_when_the_payload_is_gone(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1, 2)
    await shop.poll()
    await shop.deliver()
    await shop.deliveries.update_many({}, {"$unset": {"payload": ""}})
    assert (await shop.reconcile()).complete
    await edit(shop, "note = 'other'", "id = 2")
    assert named(await shop.reconcile()) == {DiscrepancyKind.CHANGED: (1, {"orders:2"})}


async def test_rows_that_swap_what_they_hold_are_both_named(shop: Shop) -> None:
    shop.feed_by("identity", columns=["note"])
    await shop.write(1, note="one")
    await shop.write(2, note="two")
    await shop.poll()
    await edit(shop, "note = CASE WHEN id = 1 THEN 'two' ELSE 'one' END", "id IN (1, 2)")
    assert named(await shop.reconcile()) == {DiscrepancyKind.CHANGED: (2, {"orders:1", "orders:2"})}


@STRATEGIES
async def test_new_rows_under_ids_that_were_used_before_are_named(
    shop: Shop, strategy: str
) -> None:
    """Truncated and filled again: the cursor has seen all these ids."""
    shop.feed_by(strategy)
    await shop.write(*range(1, 6))
    await shop.poll()
    await shop.deliver()
    await shop.delete_rows(*range(1, 6))
    await shop.write(*range(1, 9), note="second")
    await shop.poll()
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.CHANGED: (5, set(shop.ids(*range(1, 6))))}
    assert await shop.logged() == set(range(1, 9))


async def test_a_column_that_is_added_empty_changes_nothing_and_one_that_is_filled_is_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "LIFE", timedelta(0))
    shop.feed_by("identity")
    await shop.write(1, 2)
    await shop.poll()
    await shop.deliver()
    added = "extra TEXT" if not shop.tables.mssql else "extra NVARCHAR(9)"
    await shop.tables.run(f"ALTER TABLE {shop.tables.named('orders')} ADD {added}")
    await shop.write(3)
    await shop.poll()
    assert (await shop.reconcile()).complete
    await edit(shop, "extra = 'x'", "id = 1")
    assert named(await shop.reconcile()) == {DiscrepancyKind.CHANGED: (1, {"orders:1"})}


async def test_with_changes_captured_an_update_is_sent_and_the_certificate_complete(
    shop: Shop,
) -> None:
    shop.feed_by("rowversion", capture="changes")
    await shop.write(*range(1, 6))
    await shop.poll()
    await shop.tables.touch("orders", 3)
    await shop.poll()
    certificate = await shop.reconcile()
    assert (certificate.complete, certificate.superseded) == (True, 1)


async def test_deliveries_logged_before_hashes_were_kept_are_compared_by_key_and_said_to_be(
    shop: Shop,
) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 6))
    await shop.poll()
    await shop.deliveries.update_many(
        {"_id": {"$in": shop.ids(1, 2)}}, {"$unset": {"content": "", "place": ""}}
    )
    certificate = await shop.reconcile()
    assert (certificate.complete, certificate.by_key) == (True, 2)
    assert any("2 source rows were compared by key alone" in said for said in certificate.remarks)


async def test_a_row_that_was_dead_because_it_could_not_be_read_is_no_change(shop: Shop) -> None:
    shop.feed_by("identity", max_payload=60)
    await shop.write(1, note="x" * 90)
    await shop.poll()
    certificate = await shop.reconcile()
    assert (certificate.complete, certificate.states[State.DEAD], certificate.by_key) == (
        True,
        1,
        0,
    )


# --- two rows under one key


@STRATEGIES
@pytest.mark.parametrize("apart", [2, 25], ids=["in one window", "windows apart"])
async def test_rows_that_share_a_key_are_counted_one_by_one(
    shop: Shop, strategy: str, apart: int
) -> None:
    shop.feed = source_feed(shop.tables.named("orders"), strategy, {"identity": "id", "rowversion": "rv", "timestamp": "at"}[strategy], key="code", page_size=7)  # fmt: skip # noqa: E501
    codes = {number: f"c{number}" for number in range(1, 31)} | {apart: "c1"}
    rows = [
        {"id": n, "code": code, "note": "new", "at": f"2026-01-01 10:00:{n:02}"}
        for n, code in codes.items()
    ]
    await shop.tables.write("orders", rows)
    await shop.poll()
    assert len(await shop.ledger.deliveries.ids("orders")) == 29
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.SHARED_KEY: (1, {"orders:c1"})}
    assert (certificate.source_rows, sum(certificate.states.values())) == (30, 29)
    assert "1 sharing a key" in certificate.account
    assert not certificate.complete
    (notice,) = (await shop.cursor()).notices
    assert notice.kind is DiscrepancyKind.SHARED_KEY, "the poll noticed it"
    assert "orders:c1" in notice.said


async def test_what_a_poll_noticed_is_forgotten_when_a_certificate_finds_it_no_more(
    shop: Shop,
) -> None:
    shop.feed = source_feed(shop.tables.named("orders"), "identity", "id", key="code")
    rows = [{"id": n, "code": "same", "note": "new", "at": "2026-01-01 10:00:00"} for n in (1, 2)]
    await shop.tables.write("orders", rows)
    await shop.poll()
    assert (await shop.cursor()).notices
    await shop.reconcile()
    assert (await shop.cursor()).notices, "still so"
    await shop.delete_rows(2)
    assert (await shop.reconcile()).complete
    assert not (await shop.cursor()).notices


async def test_a_healed_row_is_the_one_that_was_missing_not_another_under_its_key(
    shop: Shop,
) -> None:
    shop.feed = source_feed(shop.tables.named("orders"), "identity", "id", key="code", page_size=5)
    rows = [{"id": n, "code": "same" if n in (1, 20) else f"c{n}", "note": f"n{n}", "at": "2026-01-01 10:00:00"} for n in range(1, 21)]  # fmt: skip # noqa: E501
    await shop.tables.write("orders", rows)
    await shop.poll()
    await shop.deliveries.delete_one({"_id": "orders:same"})
    certificate = await shop.reconcile()
    assert sums(certificate) == (20, 1, 1)
    assert named(certificate) == {DiscrepancyKind.SHARED_KEY: (1, {"orders:same"})}
    healed = await shop.ledger.deliveries.get("orders:same")
    assert healed is not None
    assert '"note":"n1"' in healed["payload"]


# --- another source


async def test_a_feed_that_names_another_table_is_paused_with_both_named(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1, 2, 3)
    await shop.poll()
    await shop.tables.make(
        "invoices", id="BIGINT PRIMARY KEY", code="NVARCHAR", note="NVARCHAR", at="MOMENT"
    )
    await shop.tables.insert("invoices", [{"id": n, "code": "c", "note": "i", "at": "2026-01-01 10:00:00"} for n in range(1, 9)])  # fmt: skip # noqa: E501
    shop.feed_by("identity", table="invoices")
    await shop.poll()
    cursor = await shop.cursor()
    assert cursor.paused
    assert cursor.paused_reason is not None
    assert shop.tables.named("orders").casefold() in cursor.paused_reason
    assert shop.tables.named("invoices").casefold() in cursor.paused_reason
    assert "feeds adopt orders" in cursor.paused_reason
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.OTHER_SOURCE: (3, set(shop.ids(1, 2, 3)))}
    assert await shop.logged() == {1, 2, 3}, "nothing of the other table was logged"


@pytest.mark.parametrize(("strategy", "key"), [("identity", ["id", "code"]), ("rowversion", "id")])
async def test_another_key_or_cursor_is_another_source_too(
    shop: Shop, strategy: str, key: object
) -> None:
    shop.feed_by("identity")
    await shop.write(1)
    await shop.poll()
    shop.feed_by(strategy, key=key)
    await shop.poll()
    assert (await shop.cursor()).paused
    assert DiscrepancyKind.OTHER_SOURCE in named(await shop.reconcile())


@pytest.mark.parametrize("written", ["ORDERS", '"orders"', "[orders]"])
async def test_a_name_written_another_way_is_the_same_source(shop: Shop, written: str) -> None:
    if shop.tables.mssql:
        pytest.skip("the test's table stands in a schema of its own")
    shop.feed_by("identity")
    await shop.write(1)
    await shop.poll()
    shop.feed_by("identity", table=written)
    await shop.poll()
    assert not (await shop.cursor()).paused


# --- a feed that stands still, or has left


async def test_a_paused_feed_with_rows_waiting_is_not_complete(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1, 2)
    await shop.poll()
    await shop.ledger.pauses.pause("orders", "by hand")
    assert (await shop.reconcile()).complete, "nothing waits"
    await shop.write(3, 4)
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.WAITING: (2, {"orders:3", "orders:4"})}
    assert any("paused: by hand" in said for said in certificate.remarks)


async def test_columns_that_came_to_a_feed_that_is_not_read_are_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "LIFE", timedelta(0))
    shop.feed_by("identity")
    await shop.write(1, 2)
    await shop.poll()
    await shop.ledger.pauses.pause("orders", "by hand")
    await shop.tables.run(f"ALTER TABLE {shop.tables.named('orders')} ADD extra INT")
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.UNSENT_COLUMNS: (1, set())}
    assert any("'extra'; paused: by hand" in said for said in certificate.remarks)
    await shop.ledger.pauses.resume("orders")
    await shop.poll()
    assert (await shop.reconcile()).complete, "it is sent from here on, and holds nothing yet"


async def test_a_row_in_an_open_gap_waits_too_where_nobody_asks_for_it(shop: Shop) -> None:
    shop.feed_by("identity", cursor_start=0)
    await shop.write(1, 2, 5)
    await shop.poll()
    await shop.write(3)
    assert (await shop.reconcile()).complete, "the next poll asks for it"
    await shop.ledger.pauses.pause("orders", "by hand")
    certificate = await shop.reconcile()
    assert certificate.awaited == 1
    assert named(certificate) == {DiscrepancyKind.WAITING: (1, {"orders:3"})}


async def test_rows_of_a_feed_that_nobody_polls_wait(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1)
    assert named(await shop.reconcile()) == {DiscrepancyKind.WAITING: (1, {"orders:1"})}
    clock = VirtualClock()
    await Polling(shop.source, shop.ledger, shop.queue, message_wait=WAIT, now=clock).poll(
        shop.feed
    )
    await shop.write(2)
    reconciling = shop.reconciling(now=clock)
    assert (await reconciling.reconcile(shop.feed)).complete
    clock.advance(timedelta(hours=1))
    assert named(await reconciling.reconcile(shop.feed)) == {
        DiscrepancyKind.WAITING: (1, {"orders:2"})
    }


async def test_a_cursor_ahead_of_its_source_is_not_complete(shop: Shop) -> None:
    await shop.tables.make("counted", id="IDENTITY", note="NVARCHAR")
    shop.feed_by("identity", table="counted")
    await shop.tables.insert("counted", [{"note": "a"}, {"note": "b"}])
    await shop.poll()
    await shop.put_cursor(7)
    certificate = await shop.reconcile()
    assert named(certificate).keys() == {DiscrepancyKind.AHEAD}
    assert any("has only reached 2" in said for said in certificate.remarks)


async def test_a_feed_that_left_with_rows_owed_has_a_certificate_of_its_own(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1, 2, 3)
    await shop.poll()
    await shop.deliver(1)
    reconciling = shop.reconciling()
    assert await reconciling.removed({"orders"}) == []
    (certificate,) = await reconciling.removed({"others"})
    assert certificate.feed == "orders"
    assert named(certificate) == {DiscrepancyKind.REMOVED: (2, set(shop.ids(2, 3)))}
    assert not certificate.complete
    assert await shop.ledger.certificates.latest("orders") == certificate
    await shop.deliver()
    (certificate,) = await reconciling.removed({"others"})
    assert certificate.complete, "once more, to say that nothing is owed any longer"
    assert await reconciling.removed({"others"}) == []


async def test_rows_whose_cursor_column_is_null_are_named(shop: Shop) -> None:
    shop.feed_by("timestamp")
    await shop.write(1)
    rows = [{"id": n, "code": "c", "note": "new", "at": None} for n in (2, 3)]
    await shop.tables.write("orders", rows)
    await shop.poll()
    certificate = await shop.reconcile()
    assert named(certificate) == {DiscrepancyKind.NO_CURSOR_VALUE: (2, {"orders:2", "orders:3"})}
