"""The walk over the ledger's deliveries, where their number tells that some have no row in the source any more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from app.core.keys import is_short_key
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.ledger.deliveries import delivery_id
from app.ledger.scans import Scan
from app.reconcile import bounds
from app.reconcile.run import Run
from app.reconcile.source_scan import rest


def some_have_no_row(walk: Scan) -> bool:
    """Whether deliveries are left over; where they could not be counted, some may be. Not asked of a part."""
    return walk.since is None and walk.total != walk.found - walk.healed


async def walk_ledger(run: Run) -> None:
    """Look the row of each delivery up by its key, and count those whose row is gone."""
    walk, done = run.walk, 0
    while True:
        ids = await run.ledger.audit.ids_after(walk.feed, walk.last_id, bounds.CHUNK)
        if not ids:
            return
        keys = await _keys_of(run, ids)
        started = time.monotonic()
        wanted = list(dict.fromkeys(keys.values()))
        present = await run.patient(lambda: run.source.present(run.feed, wanted))  # noqa: B023
        ended = time.monotonic()
        gone = [known for known, key in keys.items() if key in present and present[key] is None]
        walk.deleted_states += Counter((await run.ledger.audit.states_of(gone)).values()) if gone else Counter()
        walk.superseded += _superseded(run.feed, keys, present)
        walk.last_id, done = ids[-1], done + len(ids)
        run.tell("deliveries", done, walk.total)
        await run.save()
        await rest(run, started, ended)


async def _keys_of(run: Run, ids: Sequence[str]) -> dict[str, str]:
    """Delivery id → key: out of the id, or from the ledger where the id holds a hash of it."""
    hashed = [known for known in ids if is_short_key(known)]
    whole = await run.ledger.audit.keys_of(hashed) if hashed else {}
    return {known: whole.get(known) or _key_of(run.feed, known) for known in ids}


def _key_of(feed: Feed, known: str) -> str:
    """The key in a delivery's id."""
    key = known[len(feed.name) + 1 :]
    return key.rpartition(":")[0] if feed.capture == "changes" else key


def _superseded(feed: Feed, keys: Mapping[str, str], present: Mapping[str, SourceRow | None]) -> int:
    """How many of the ids are of a change that is no longer the row's last."""
    if feed.capture != "changes":
        return 0
    rows = ((known, present.get(key)) for known, key in keys.items())
    return sum(row is not None and delivery_id(feed.name, row) != known for known, row in rows)
