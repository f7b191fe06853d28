"""Scans the ledger's deliveries, where their number shows that some no longer have a row in the
source.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from app.core.keys import is_short_key
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.ledger.delivery_documents import delivery_id
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.reconcile.run import Run
from app.reconcile.source_scan import rest


def some_have_no_row(scan: Scan) -> bool:
    """Whether there are, or may be, deliveries without a row. Never where only a part of the feed
    is compared.
    """
    return scan.since is None and scan.total != scan.found - scan.healed


async def scan_ledger(run: Run) -> None:
    """Look up each delivery's row by key, and count the deliveries whose row is gone."""
    scan, done = run.scan, 0
    while True:
        ids = await run.ledger.audit.ids_after(scan.feed, scan.last_id, bounds.CHUNK)
        if not ids:
            return
        keys = await _keys_of(run, ids)
        started = time.monotonic()
        wanted = list(dict.fromkeys(keys.values()))
        present = await run.patient(lambda: run.source.present(run.feed, wanted))  # noqa: B023 - called in the same turn
        ended = time.monotonic()
        gone = [known for known, key in keys.items() if key in present and present[key] is None]
        scan.deleted_states += (
            Counter((await run.ledger.audit.states_of(gone)).values()) if gone else Counter()
        )
        scan.superseded += _superseded(run.feed, keys, present)
        scan.last_id, done = ids[-1], done + len(ids)
        run.tell("deliveries", done, scan.total)
        await run.save()
        await rest(run, started, ended)


async def _keys_of(run: Run, ids: Sequence[str]) -> dict[str, str]:
    """Delivery id → key: from the id, or from the ledger where the id holds a hash."""
    hashed = [known for known in ids if is_short_key(known)]
    whole = await run.ledger.audit.keys_of(hashed) if hashed else {}
    return {known: whole.get(known) or _key_of(run.feed, known) for known in ids}


def _key_of(feed: Feed, known: str) -> str:
    """The key in a delivery's id."""
    key = known[len(feed.name) + 1 :]
    return key.rpartition(":")[0] if feed.capture == "changes" else key


def _superseded(
    feed: Feed, keys: Mapping[str, str], present: Mapping[str, SourceRow | None]
) -> int:
    """How many of the ids are of changes that are no longer their row's latest."""
    if feed.capture != "changes":
        return 0
    rows = ((known, present.get(key)) for known, key in keys.items())
    return sum(row is not None and delivery_id(feed.name, row) != known for known, row in rows)
