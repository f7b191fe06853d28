"""Counts a window's rows: by number and sum where every row agrees with its delivery, otherwise row
by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from app.core.parts import in_parts
from app.core.position import Gap, Position
from app.core.rows import SourceRow
from app.core.states import State
from app.intake.compare import Compared, changed, compare, hash_sum, sharing, still_there
from app.ledger.audit import Fact
from app.ledger.delivery_documents import delivery_id, place_hash
from app.ledger.purge_watermarks import PurgeWatermark
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.reconcile.healing import settle
from app.reconcile.run import Run, named
from app.source.scan import ScanWindow

Read: TypeAlias = Callable[[], Awaitable[ScanWindow]]
"""Reads the window again."""


async def account(run: Run, rows: Sequence[SourceRow], read: Read) -> None:
    """Count a window's rows, and log those that are missing."""
    scan = run.scan
    if watermark := _watermark(scan):
        above = [row for row in rows if not watermark.covers(row.position)]
        scan.purged += len(rows) - len(above)
        rows = above
    if not rows:
        return
    by_id = {delivery_id(scan.feed, row): row for row in rows}
    counts, hashes = await run.ledger.audit.count_states(list(by_id))
    if counts.total() == len(rows) and hashes == hash_sum(rows):
        scan.source_rows += len(rows)
        scan.found += len(by_id)
        scan.states += counts
        return
    await settle(run, await _by_row(run, rows, read))


async def _by_row(run: Run, rows: Sequence[SourceRow], read: Read) -> list[SourceRow]:
    """Count the rows that have a delivery, and those left out. Returns the missing ones."""
    scan, audit = run.scan, run.ledger.audit
    facts = await audit.facts_of([delivery_id(scan.feed, row) for row in rows])
    compared = compare(scan.feed, rows, facts)
    if compared.suspects:
        await _confirm(run, compared, read)
    scan.by_key += compared.by_key
    _count(scan, [fact.state for _, fact in compared.own])
    if not compared.absent:
        return []
    gaps = (await run.ledger.cursors.get(scan.feed)).gaps  # in this order: see `app.reconcile`
    states = await audit.states_of(list(compared.absent))
    watermark = await run.ledger.purge_watermarks.get(scan.feed)
    _count(scan, list(states.values()))
    missing: list[SourceRow] = []
    for known, row in compared.absent.items():
        if known in states:
            continue
        if _in_a_gap(row.position, gaps):
            scan.awaited += named(scan.feed, [row], scan.awaited_ids)
        elif watermark and watermark.covers(row.position):
            scan.purged += 1
        else:
            missing.append(row)
    return missing


def _count(scan: Scan, states: Sequence[State]) -> None:
    """Count rows that have a delivery of their own."""
    scan.source_rows += len(states)
    scan.found += len(states)
    scan.states += Counter(states)


async def _confirm(run: Run, compared: Compared, read: Read) -> None:
    """Read the suspects again, on both sides, and count those that remain as changed, or as sharing
    a key.

    All but the latter have a delivery of their own, and are counted with those.
    """
    scan, feed = run.scan, run.feed
    again = (await run.patient(read)).rows
    ids = [delivery_id(scan.feed, row) for row in compared.suspects]
    facts = await run.ledger.audit.facts_of(ids)
    there = still_there(scan.feed, compared.suspects, again)
    keys = list(dict.fromkeys(row.key for row in there if not row.error))
    found: list[SourceRow] = []
    agreed = (await run.ledger.cursors.get(feed.name)).columns
    for chunk in in_parts(keys, min(bounds.CHUNK, feed.page_size)):
        found += await run.patient(lambda: run.source.find_all(feed, chunk, agreed))  # noqa: B023 - called in the same turn
    shared = sharing(scan.feed, there, compared.rows, found, facts)
    differing = [row for row in there if row not in shared and _differs(scan.feed, row, facts)]
    scan.source_rows += len(shared)
    scan.shared += named(scan.feed, shared, scan.shared_ids)
    if run.acknowledge and not run.dry:
        scan.acknowledged += await _acknowledge(run, differing, facts)
    else:
        scan.changed += named(scan.feed, differing, scan.changed_ids)
    sharing_at = {(delivery_id(scan.feed, row), place_hash(row.position)) for row in shared}
    for row in compared.suspects:
        known = delivery_id(scan.feed, row)
        if (known, place_hash(row.position)) not in sharing_at and (fact := facts.get(known)):
            compared.own.append((row, fact))


async def _acknowledge(run: Run, rows: Sequence[SourceRow], facts: Mapping[str, Fact]) -> int:
    ids = {delivery_id(run.feed.name, row): row.content for row in rows}
    contents = {
        known: (was, ids[known]) for known in ids if (was := facts[known].content) is not None
    }
    return await run.ledger.audit.acknowledge(contents, run.acknowledge, run.means.now())


def _watermark(scan: Scan) -> PurgeWatermark | None:
    """The purge watermark as it was when the scan began."""
    return None if scan.floor is None else PurgeWatermark(scan.feed, scan.begun_at, scan.floor)


def _in_a_gap(position: Position, gaps: Iterable[Gap]) -> bool:
    if not isinstance(position, int):
        return False
    return any((gap.low is None or gap.low <= position) and position <= gap.high for gap in gaps)


def _differs(feed: str, row: SourceRow, facts: Mapping[str, Fact]) -> bool:
    fact = facts.get(delivery_id(feed, row))
    return fact is not None and changed(row, fact)
