"""Reconciliation that dies, is cut off, runs twice, waits, or runs while everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from app.core.certificates import DiscrepancyKind
from app.core.clock import utc_now
from app.core.errors import SourceUnavailable
from app.core.states import State
from app.reconcile import bounds
from app.source.reader import Source
from tests.support.reconciled import Shop, counted, sums
from tests.support.steps import Crashed, Fate, Kind, Steps, stepped_ledger, stepped_source

STRATEGIES = pytest.mark.parametrize("strategy", ["identity", "rowversion", "timestamp"])


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WINDOW", 10)
    monkeypatch.setattr(bounds, "CHUNK", 4)
    monkeypatch.setattr(bounds, "SAVED_EVERY", timedelta(0))


async def _crashing(shop: Shop, fate: Fate) -> bool:
    """Reconcile with a crash at that step. Returns whether it came to it."""
    steps = Steps(fate)
    run = shop.reconciling(stepped_ledger(shop.ledger, steps), stepped_source(shop.source, steps))
    try:
        await run.reconcile(shop.feed)
    except Crashed:
        return True
    return False


async def test_a_run_that_dies_between_any_two_steps_is_repaired_by_the_next(shop: Shop) -> None:
    shop.feed_by("identity", batch_size=2, filter=[{"column": "note", "op": "!=", "value": "test"}])
    await shop.write(*range(1, 21))
    await shop.write(21, 22, note="test")
    await shop.poll()
    await shop.deliver()
    for step in range(1, 1000):
        await shop.lose(3, 14, 15, 16, 21)
        died = await _crashing(shop, Fate(Kind.CRASH, step))
        certificate = await shop.reconcile()
        assert certificate.complete, step
        assert certificate.source_rows == 22, step
        assert await shop.logged() == set(range(1, 23)), step
        queued = await shop.deliveries.find({"state": "queued"}).to_list()
        assert {document["_id"] for document in queued} == set(shop.ids(3, 14, 15, 16)), step
        batches = {
            d["_id"]: d["ids"] for d in await shop.ledger._database["batches"].find().to_list()
        }
        assert all(document["_id"] in batches[document["batch"]] for document in queued), step
        await shop.deliver()
        if not died:
            break
    assert step > 20


async def test_two_runs_at_once_log_each_row_once(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 51))
    await shop.poll()
    await shop.lose(*range(5, 45))
    certificates = await asyncio.gather(shop.reconcile(), shop.reconcile(), shop.poll())
    for certificate in certificates[:2]:
        assert certificate.complete
        assert certificate.source_rows == 50
    assert len(await shop.queued_once()) == 50


def _counting(source: Source, shop: Shop, then: Callable[[int], Awaitable[None]]) -> list[int]:
    """Call `then` with its number after each window that is read. Returns the rows of each, as they
    come.
    """
    walk, sizes = source.walk, list[int]()

    async def counting(*arguments: Any) -> Any:
        window = await walk(*arguments)
        sizes.append(len(window.rows))
        await then(len(sizes))
        return window

    shop.source.walk = counting  # type: ignore[assignment, method-assign] # what happens between two windows
    return sizes


async def test_a_run_that_was_cut_off_is_gone_on_with(shop: Shop) -> None:
    shop.feed_by("identity", page_size=10)
    await shop.write(*range(1, 51))
    await shop.poll()
    await shop.deliver()
    await shop.lose(5, 45)
    started = utc_now() - timedelta(seconds=1)

    async def cut(number: int) -> None:
        if number == 4:
            raise asyncio.CancelledError

    sizes = _counting(shop.source, shop, cut)
    with pytest.raises(asyncio.CancelledError):
        await shop.reconcile()
    certificate = await shop.reconcile()
    assert sizes == [10, 10, 10, 10, 10, 10], "the fourth window twice, the others once"
    assert sums(certificate) == (50, 2, 2)
    assert certificate.begun_at is not None
    assert started < certificate.begun_at < certificate.at
    assert await shop.ledger._database["walks"].count_documents({}) == 0


async def test_a_run_that_was_cut_off_long_ago_or_is_not_wanted_is_begun_anew(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 41))
    await shop.poll()

    async def cut(number: int) -> None:
        if number == 3:
            raise asyncio.CancelledError

    sizes = _counting(shop.source, shop, cut)
    with pytest.raises(asyncio.CancelledError):
        await shop.reconcile()
    await shop.lose(1)
    assert sums(await shop.reconcile(dry_run=True)) == (40, 1, 0)
    assert sums(await shop.reconcile(since=0)) == (40, 1, 1)
    await shop.lose(1)
    sizes.clear()
    with pytest.raises(asyncio.CancelledError):
        await shop.reconcile()
    await shop.lose(1)
    later = shop.reconciling(now=lambda: utc_now() + timedelta(hours=7))
    assert sums(await later.reconcile(shop.feed)) == (40, 1, 1)


async def test_a_source_that_is_away_for_a_while_is_waited_for(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(*range(1, 41))
    await shop.poll()

    async def fail(number: int) -> None:
        if number in (3, 4, 6):
            raise SourceUnavailable("gone for a moment")

    _counting(shop.source, shop, fail)
    assert sums(await shop.reconcile()) == (40, 0, 0)


async def test_a_source_that_cannot_be_reached_at_all_is_told_at_once(shop: Shop) -> None:
    shop.feed_by("identity")
    await shop.write(1)
    await shop.poll()

    async def fail(_: int) -> None:
        raise SourceUnavailable("nobody there")

    tries = _counting(shop.source, shop, fail)
    with pytest.raises(SourceUnavailable, match="nobody there"):
        await shop.reconcile()
    assert len(tries) == 1


@STRATEGIES
async def test_polls_deliveries_and_writers_go_on_and_nothing_is_taken_for_lost(
    shop: Shop, strategy: str
) -> None:
    """Between any two windows rows are written, updated, deleted, polled and delivered."""
    shop.feed_by(strategy, cursor_start="beginning")
    await shop.write(*range(1, 61))
    await shop.poll()

    async def everything_goes_on(number: int) -> None:
        fresh = 100 + 10 * number
        await shop.write(*range(fresh, fresh + 5), at=f"2026-01-02 10:00:{number:02}")
        for key in (2, 30 + number, 59):
            await shop.tables.touch("orders", key)
        await shop.poll()
        await shop.deliver(number, 60 - number)
        await shop.deliver(20 + number, state=State.DEAD)
        await shop.delete_rows(40 + number)

    windows = _counting(shop.source, shop, everything_goes_on)
    certificate = await shop.reconcile()
    updated = (
        {DiscrepancyKind.CHANGED} if strategy != "rowversion" else set()
    )  # there each update moves a row beyond
    assert certificate.missing == 0
    assert {found.kind for found in certificate.discrepancies} == updated
    assert certificate.source_rows == sum(counted(certificate).values())
    assert certificate.deleted <= len(windows)
    assert {"queued", "delivered", "dead"} == counted(certificate).keys()
