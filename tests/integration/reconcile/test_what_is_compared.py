"""A certificate vouches for what it has compared: all that the feed has read, as it is, and what was purged."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.core.certificates import DiscrepancyKind
from app.core.clock import utc_now
from app.operations.by import By
from app.operations.rewind import Rewinding
from app.reconcile import bounds
from app.retention.purge import Purging
from app.retention.run import PurgeSettings
from tests.support.reconciled import Shop, sums
from tests.support.retention import at_once


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that a few rows reach them."""
    monkeypatch.setattr(bounds, "WINDOW", 10)
    monkeypatch.setattr(bounds, "CHUNK", 4)
    monkeypatch.setattr(bounds, "SAVED_EVERY", timedelta(0))


@pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])
async def test_many_rewinds_leave_all_that_was_read_to_be_compared(
    shop: Shop, strategy: str
) -> None:
    shop.feed_by(strategy, page_size=50)
    await shop.write(*range(1, 41))
    await shop.poll()
    await shop.deliver()
    position = (await shop.deliveries.find_one({"_id": "orders:30"}))["position"]
    back = position[0] if isinstance(position, list) else position
    for _ in range(25):
        await Rewinding(shop.source, shop.ledger).rewind(shop.feed, back, By("x"))
        await shop.poll()
    await shop.lose(5)
    assert sums(await shop.reconcile()) == (40, 1, 1)


async def test_an_interrupted_scan_is_not_continued_for_a_feed_that_selects_other_rows(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.feed_by("identity", page_size=10, where=[{"column": "note", "op": "=", "value": "new"}])
    await shop.write(*range(1, 51))
    await shop.write(51, note="new")
    await shop.tables.run("UPDATE orders SET note = 'old' WHERE id = 5")
    await shop.poll()
    await shop.deliver()
    walk, walked = shop.source.walk, list[bool]()

    async def cut(*arguments: Any) -> Any:
        walked.append(True)
        if len(walked) == 4:
            raise asyncio.CancelledError
        return await walk(*arguments)

    monkeypatch.setattr(shop.source, "walk", cut)
    with pytest.raises(asyncio.CancelledError):
        await shop.reconcile()
    monkeypatch.setattr(shop.source, "walk", walk)
    shop.feed_by("identity", page_size=10)
    await shop.poll()
    assert sums(await shop.reconcile()) == (51, 1, 1)


async def test_a_changed_row_is_named_even_if_it_changes_again_while_it_is_looked_at(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.feed_by("identity", page_size=10)
    await shop.write(*range(1, 6))
    await shop.poll()
    await shop.deliver()
    walk, walked = shop.source.walk, list[bool]()

    async def changing(*arguments: Any) -> Any:
        walked.append(True)
        note = f"changed {len(walked)} times"
        await shop.tables.run("UPDATE orders SET note = :note WHERE id = 3", note=note)
        return await walk(*arguments)

    monkeypatch.setattr(shop.source, "walk", changing)
    certificate = await shop.reconcile()
    assert [found.kind for found in certificate.discrepancies] == [DiscrepancyKind.CHANGED]


@pytest.mark.parametrize("moment", [1767261600, 1767261600.5, "2026-01-01 10:00:00"])
async def test_purged_rows_are_not_sent_again_however_sqlite_keeps_their_moment(
    shop: Shop, moment: Any
) -> None:
    await shop.tables.run("CREATE TABLE stamped (id INTEGER PRIMARY KEY, note TEXT, at DATETIME)")
    for number in (1, 2, 3):
        values = {"id": number, "at": moment}
        await shop.tables.run("INSERT INTO stamped VALUES (:id, 'new', :at)", **values)
    shop.feed_by("timestamp", page_size=10)
    shop.feed = shop.feed.model_copy(update={"table": "stamped"})
    await shop.poll()
    old = utc_now() - timedelta(days=200)
    delivered = {"state": "delivered", "finished_at": old, "created_at": old}
    await shop.deliveries.update_many({}, {"$set": delivered, "$unset": {"batch": ""}})
    terms = PurgeSettings("w:1", timedelta(minutes=1), share=0.5)
    purging = Purging(shop.ledger, {"orders": shop.feed}, terms, sleep=at_once)
    assert (await purging.purge(shop.feed)).records == 3
    certificate = await shop.reconcile()
    assert sums(certificate) == (0, 0, 0)
    assert certificate.purged == 3
