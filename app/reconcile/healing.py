"""Heals what is missing: reads it whole from the source by key, and logs it as a poll would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.core.budget import Reservation
from app.core.errors import LedgerUnavailable
from app.core.parts import in_parts
from app.core.rows import Columns, SourceRow
from app.core.states import State
from app.intake.backlog import backlog
from app.ledger.delivery_documents import delivery_id
from app.reconcile import bounds
from app.reconcile.run import Run, named

log = structlog.get_logger()


async def settle(run: Run, missing: Sequence[SourceRow]) -> None:
    """Count missing rows, and log them, within the bounds; in a dry run only count them."""
    for chunk in in_parts(missing, min(bounds.CHUNK, run.feed.page_size)):
        await _settle(run, chunk)
    if missing:
        ids = [delivery_id(run.scan.feed, row) for row in missing[:10]]
        log.warning(
            "rows_missing", feed=run.scan.feed, rows=len(missing), first=ids, dry_run=run.dry
        )


async def _settle(run: Run, missing: Sequence[SourceRow]) -> None:
    scan = run.scan
    logged = await _heal(run, missing) if await _may_heal(run) else {}
    states = [state for row in missing if (state := logged.get(row.key))]
    scan.source_rows += len(missing)
    scan.missing += len(missing)
    scan.healed += len(states)
    scan.found += len(states)
    scan.states += Counter(states)
    named(scan.feed, missing, scan.missing_ids)


async def _may_heal(run: Run) -> bool:
    if run.dry or run.scan.healed >= run.means.heal_at_most:
        return False
    return await backlog(run.feed, run.ledger) < run.feed.max_backlog


async def _heal(run: Run, missing: Sequence[SourceRow]) -> dict[str, State]:
    """Read the rows whole and log them, as many at a time as memory allows. Returns key → state,
    without rows deleted meanwhile.

    With `capture = "changes"` a row updated meanwhile is logged as its current change.
    """
    keyless = [row for row in missing if row.error]
    keys = [row.key for row in missing if not row.error]
    agreed = (await run.ledger.cursors.get(run.feed.name)).columns
    states = await _log(run, keyless) if keyless else {}
    room = run.source.room(run.feed)
    while keys:
        try:
            whole, count = await run.patient(lambda: _find_some(run, keys, agreed, room))  # noqa: B023 - called in the same turn
            states |= await _log(run, _one_a_key(run.feed.name, whole, missing))
            del whole
        finally:
            room.release()
        keys = keys[count:]
    return states


async def _find_some(
    run: Run, keys: Sequence[str], agreed: Columns, room: Reservation
) -> tuple[tuple[SourceRow, ...], int]:
    room.release()  # from an earlier try
    return await run.source.find_some(run.feed, keys, agreed, room)


async def _log(run: Run, rows: Sequence[SourceRow]) -> dict[str, State]:
    """Log these rows, and publish them. Returns key → state."""
    logged = await run.means.intake.log(run.feed, rows)
    with suppress(
        LedgerUnavailable
    ):  # the messages are out; what counts them must not be done twice, and may fall short
        await run.means.intake.send(run.feed, logged)
        await run.means.intake.count(run.feed, logged)
    states = await run.ledger.audit.states_of([delivery_id(run.feed.name, row) for row in rows])
    return {
        row.key: states[known]
        for row in rows
        if (known := delivery_id(run.feed.name, row)) in states
    }


def _one_a_key(
    feed: str, whole: Sequence[SourceRow], missing: Sequence[SourceRow]
) -> list[SourceRow]:
    """Of rows that share an id, the missing one, so that no other is mistaken for it."""
    wanted = {delivery_id(feed, row): row.position for row in missing}
    chosen: dict[str, SourceRow] = {}
    for row in whole:
        known = delivery_id(feed, row)
        if known not in chosen or row.position == wanted.get(known):
            chosen[known] = row
    return list(chosen.values())
