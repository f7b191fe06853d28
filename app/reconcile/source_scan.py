"""Scans the source's rows, a window at a time, with pauses that spare the source."""

from __future__ import annotations

import time
from functools import partial

from app.core.position import Position, ReadRange
from app.ledger.purge_watermarks import higher
from app.ledger.scans import Phase, Scan
from app.reconcile import bounds
from app.reconcile.account import account
from app.reconcile.run import Run
from app.source.scan import ScanRange, ScanWindow


async def count_purged(run: Run) -> None:
    """Count the rows to compare that lie below the purge watermark. The server counts, `STRIDE`
    rows a statement.
    """
    scan = run.scan
    for place, read_range in enumerate(() if scan.floor is None else scan.spans):
        after = higher(scan.since, read_range.after)
        if after is None or higher(after, scan.floor) != after:
            await _count_range(run, ScanRange(read_range, scan.spans[:place], scan.floor), after)
    scan.phase = Phase.SOURCE


async def _count_range(run: Run, stretch: ScanRange, after: Position) -> None:
    while True:
        started = time.monotonic()
        rows, reached = await run.source.count(run.feed, stretch, after, bounds.STRIDE)
        run.scan.purged += rows
        run.tell("rows that may be purged", run.scan.purged, None)
        if reached is None:
            return
        after = reached
        await rest(run, started, time.monotonic())


async def scan_source(run: Run) -> None:
    """Account for every row that the cursor has read."""
    scan = run.scan
    while scan.place < len(scan.spans):
        read_range = scan.spans[scan.place]
        stretch = ScanRange(read_range, scan.spans[: scan.place])
        after = _lower_end(scan, read_range) if scan.after is None else scan.after
        rows = min(bounds.WINDOW, run.feed.page_size)  # they are read whole, as by a poll
        read = partial(_window, run, stretch, after, rows)
        window = await run.patient(read)
        before = scan.missing
        await account(run, window.rows, read)
        scan.after = window.reached
        if not window.more:
            scan.place, scan.after = scan.place + 1, None
        run.tell("source rows", scan.source_rows, scan.total)
        await run.save(at_once=scan.missing > before)
        await rest(run, *window.asked)
    scan.phase = Phase.LEDGER


async def rest(run: Run, started: float, ended: float) -> None:
    """Pause for as long as a statement took that ran between these moments of the monotonic clock.

    Work done since then counts as pause: reading, hashing and asking the ledger put no load on the
    source.
    """
    until = ended + min(ended - started, bounds.LONGEST_REST_SECONDS)
    await run.means.sleep(max(until - time.monotonic(), 0))


async def _window(run: Run, stretch: ScanRange, after: Position, limit: int) -> ScanWindow:
    agreed = (await run.ledger.cursors.get(run.feed.name)).columns
    return await run.source.walk(run.feed, stretch, after, limit, agreed)


def _lower_end(scan: Scan, read_range: ReadRange) -> Position:
    """Where to begin within a read range: the highest of its own beginning, `since`, and the purge
    watermark.
    """
    return higher(scan.floor, higher(scan.since, read_range.after))
