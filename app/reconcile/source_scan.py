"""The walk over the source's rows, a window at a time, and how the source is spared meanwhile."""

from __future__ import annotations

import time
from functools import partial

from app.core.position import Position, ReadRange
from app.ledger.purge_watermarks import higher
from app.ledger.scans import Phase, Scan
from app.reconcile import bounds
from app.reconcile.account import account
from app.reconcile.run import Run
from app.source.scan import ScanWindow, Stretch


async def count_purged(run: Run) -> None:
    """Count what was asked for and lies below the floor. The server counts, `STRIDE` rows a statement."""
    walk = run.walk
    for place, span in enumerate(() if walk.floor is None else walk.spans):
        after = higher(walk.since, span.after)
        if after is None or higher(after, walk.floor) != after:
            await _count_span(run, Stretch(span, walk.spans[:place], walk.floor), after)
    walk.phase = Phase.SOURCE


async def _count_span(run: Run, stretch: Stretch, after: Position) -> None:
    while True:
        started = time.monotonic()
        rows, reached = await run.source.count(run.feed, stretch, after, bounds.STRIDE)
        run.walk.purged += rows
        run.tell("rows that may be purged", run.walk.purged, None)
        if reached is None:
            return
        after = reached
        await rest(run, started, time.monotonic())


async def walk_source(run: Run) -> None:
    """Account for each row that the cursor has read."""
    walk = run.walk
    while walk.place < len(walk.spans):
        span = walk.spans[walk.place]
        stretch = Stretch(span, walk.spans[: walk.place])
        after = _lower_end(walk, span) if walk.after is None else walk.after
        rows = min(bounds.WINDOW, run.feed.page_size)  # they are read whole, as by a poll
        read = partial(_window, run, stretch, after, rows)
        window = await run.patient(read)
        before = walk.missing
        await account(run, window.rows, read)
        walk.after = window.reached
        if not window.more:
            walk.place, walk.after = walk.place + 1, None
        run.tell("source rows", walk.source_rows, walk.total)
        await run.save(at_once=walk.missing > before)
        await rest(run, *window.asked)
    walk.phase = Phase.LEDGER


async def rest(run: Run, started: float, ended: float) -> None:
    """Leave the source alone, after a statement between these moments of the monotonic clock, for as long as it took.

    What was done since counts: reading, hashing and asking the ledger are no work of the source's.
    """
    until = ended + min(ended - started, bounds.LONGEST_REST_SECONDS)
    await run.means.sleep(max(until - time.monotonic(), 0))


async def _window(run: Run, stretch: Stretch, after: Position, limit: int) -> ScanWindow:
    agreed = (await run.ledger.cursors.get(run.feed.name)).columns
    return await run.source.walk(run.feed, stretch, after, limit, agreed)


def _lower_end(walk: Scan, span: ReadRange) -> Position:
    """Where a span's walk begins: the highest of its own begin, what was asked for, and the floor."""
    return higher(walk.floor, higher(walk.since, span.after))
