"""Purge takes its share of the time and no more, less while deliveries are behind, in chunks that
stay short.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from app.core.position import Position
from app.core.states import State
from app.feeds.feed import Retention
from app.ledger.purge_watermarks import PurgeWatermark, higher
from app.ledger.settled import CATEGORIES, settled
from app.retention import pace as paces
from app.retention.expiry import days_between
from app.retention.pace import LONGEST_PAUSE_SECONDS, Pace, pause_after


@pytest.mark.parametrize(
    ("share", "pause"), [(1.0, 0.0), (0.5, 2.0), (0.2, 8.0), (0.05, LONGEST_PAUSE_SECONDS)]
)
def test_the_pause_leaves_the_work_its_share(share: float, pause: float) -> None:
    assert pause_after(2.0, share) == pytest.approx(pause)


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows: a list of one, to be set."""
    shown = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: shown[0])
    return shown


async def _take(pace: Pace, elapsed: list[float], seconds: float, count: int | None = None) -> None:
    async with pace.chunk() as chunk:
        chunk.count = pace.size if count is None else count
        elapsed[0] += seconds


async def test_it_pauses_four_times_as_long_and_more_while_others_are_busy(
    elapsed: list[float],
) -> None:
    busy, paused = [False], list[float]()

    async def is_busy() -> bool:
        return busy[0]

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    pace = Pace(0.2, is_busy, sleep)
    await _take(pace, elapsed, 1.0)
    busy[0] = True
    await _take(pace, elapsed, 1.0)
    assert paused == [pytest.approx(4.0), pytest.approx(19.0)]


async def test_chunks_grow_where_they_are_quick_and_shrink_where_they_are_slow(
    elapsed: list[float],
) -> None:
    async def no() -> bool:
        return False

    async def sleep(_: float) -> None:
        return

    pace = Pace(0.2, no, sleep)
    sizes = [pace.size]
    for seconds in (0.05, 0.05, 0.05, 0.2, 0.3, 0.3, 9, 9, 9, 9):
        await _take(pace, elapsed, seconds)
        sizes.append(pace.size)
    assert sizes == [100, 200, 400, 500, 500, 250, 125, 62, 31, 20, 20]
    await _take(pace, elapsed, 0.01, count=3)
    assert pace.size == 20, "a chunk that was not full says nothing"
    await _take(pace, elapsed, 9, count=0)
    assert len(pace.chunk_seconds) == 11, "one that held nothing is none"
    assert paces.SIZE_LIMIT == 500


# --- what counts, and where days end


def test_days_are_cut_to_what_is_asked_for() -> None:
    start, end = datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 3, 30, 1, tzinfo=UTC)
    spans = list(days_between(start, end))
    assert [(span.start.day, span.start.hour) for span in spans] == [(28, 22), (29, 0), (30, 0)]
    assert spans[-1].end == end
    assert list(days_between(end, start)) == []


@pytest.mark.parametrize("state", State)
def test_only_what_is_settled_is_in_a_category(state: State) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    document = {
        "_id": "o:1",
        "feed": "o",
        "state": state.value,
        "created_at": at,
        "finished_at": at,
    }
    found = settled(document)
    is_settled = state in (State.DELIVERED, State.CANCELLED, State.SKIPPED)
    assert (found is not None) is is_settled
    acknowledged = settled(
        document
        | {"acknowledged": {"at": at + timedelta(1), "by": "ada"}, "kept_from": at + timedelta(1)}
    )
    if state is State.DEAD:
        assert acknowledged is not None
        assert (acknowledged.category.name, acknowledged.moment) == ("kept", at + timedelta(1))
    elif not is_settled:
        assert acknowledged is None
    restored = settled(
        document | {"restored_at": at + timedelta(2), "kept_from": at + timedelta(2)}
    )
    assert (restored.category.name if restored else None) == ("kept" if is_settled else None)


def test_each_category_has_a_name_of_its_own() -> None:
    assert len({category.name for category in CATEGORIES}) == len(CATEGORIES) == 4


# --- floors


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (9, 10),
        (["0x00000000000007D1", "9"], ["0x00000000000007D2", "1"]),
        (["2026-01-31 09:59:59.9999999", "9"], ["2026-01-31 10:00:00", "1"]),
        (None, 1),
        ("0x00000000000007D1", ["0x00000000000007D2", "1"]),
    ],
)
def test_a_floor_covers_what_is_at_or_below_it_in_the_order_of_the_strategy(
    low: Position, high: Position
) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert higher(low, high) == higher(high, low) == high
    assert PurgeWatermark("o", at, high).covers(low) is (low is not None)
    assert PurgeWatermark("o", at, high).covers(high)
    assert not PurgeWatermark("o", at, low).covers(high)


def test_rows_of_the_same_version_are_covered_together() -> None:
    assert PurgeWatermark("o", datetime(2026, 1, 1, tzinfo=UTC), ["0x07D1", "5"]).covers(
        ["0x07D1", "9"]
    )


def test_retention_has_defaults_that_are_safe() -> None:
    kept = Retention()
    assert (kept.payload_days, kept.days, kept.stats_days, kept.report_days, kept.archive) == (
        7,
        90,
        90,
        730,
        True,
    )
