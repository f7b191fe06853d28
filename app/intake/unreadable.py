"""Reads unreadable rows from the source again, when an operator replays their dead letters.

A row that had no JSON form, was too long, or broke its statement is in the ledger without a
payload, and no poll returns to it: with `capture = "inserts"` an update is no new delivery. So a
replay reads it by its key. A row that can be read now gets its payload, and is from then on a dead
letter like any other: a replay that dies here is simply run again. One that still cannot be read
stays dead, with the current reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from app.core.errors import SourceRefused, SourceUnavailable
from app.core.parts import in_parts
from app.core.rows import SourceRow
from app.feeds.feed import Feed
from app.feeds.filter import sift
from app.ledger import Ledger
from app.ledger.delivery_documents import delivery_id
from app.ledger.picking import Picked
from app.ledger.selection import Selection
from app.ledger.stamp import Stamp
from app.source.reader import Source

log = structlog.get_logger()

AT_ONCE = 500
"""Most dead letters whose rows are read together."""
NO_ROW = "no row under its key in the source"
CHANGED_SINCE = "its row has changed since: that change has a delivery of its own"
STILL_UNREADABLE = "still not readable in the source"
FILTERED = "left out by the feed's filter"
NOT_ASKED = "the source cannot be asked"


class Rereading:
    """Rereads rows for one replay."""

    def __init__(
        self, ledger: Ledger, feeds: Mapping[str, Feed], source: Callable[[], Source], stamp: Stamp
    ) -> None:
        """`source`: gives the open source; called when the first row is to be read."""
        self._ledger = ledger
        self._feeds = feeds
        self._source = source
        self._stamp = stamp

    async def reread(self, selection: Selection, begun: datetime) -> Counter[str]:
        """Read the selected rows again, and store the payload of those that can be read now.
        Returns, for the others, why they stay as they are → how many. Raises the ledger's errors.
        """
        stay: Counter[str] = Counter()
        after: Picked | None = None
        seen: set[str] = set()
        """Those that share the place of `after`: the next question returns them again."""
        while picked := await self._ledger.selections.to_reread(
            selection, begun, after, AT_ONCE, without=seen
        ):
            last = picked[-1]
            if after is None or (after.feed, after.place) != (last.feed, last.place):
                seen = set()
            seen |= {one.id for one in picked if (one.feed, one.place) == (last.feed, last.place)}
            after = last
            stay += await self._reread(picked)
        return stay

    async def _reread(self, picked: Sequence[Picked]) -> Counter[str]:
        by_feed: defaultdict[str, list[str]] = defaultdict(list)
        for one in picked:
            by_feed[one.feed].append(one.id)
        stay: Counter[str] = Counter()
        for name, ids in by_feed.items():
            feed = self._feeds[name]
            size = min(AT_ONCE, feed.page_size)  # they are read whole
            for part in in_parts(ids, size):
                stay += await self._reread_part(feed, part)
        return stay

    async def _reread_part(self, feed: Feed, ids: Sequence[str]) -> Counter[str]:
        """Reread these, as many at a time as memory allows."""
        keys = await self._ledger.audit.keys_of(ids)
        left = [known for known in ids if known in keys]
        stay = Counter({NO_ROW: len(ids) - len(left)})
        while left:
            stays, count = await self._reread_some(feed, {known: keys[known] for known in left})
            stay += stays
            left = left[count:]
        return stay

    async def _reread_some(self, feed: Feed, keys: Mapping[str, str]) -> tuple[Counter[str], int]:
        """Reread the first of these (id → key). Returns why some stay as they are, and how many
        were handled.
        """
        agreed = (await self._ledger.cursors.get(feed.name)).columns
        try:
            found, count = await self._source().find_some(feed, list(keys.values()), agreed)
        except (SourceUnavailable, SourceRefused) as error:
            log.warning("rows_not_reread", feed=feed.name, rows=len(keys), error=str(error))
            return Counter({f"{NOT_ASKED}: {error}": len(keys)}), len(keys)
        ids = list(keys)[:count]
        facts = await self._ledger.audit.facts_of(ids)
        rows = _one_each(feed, found, {known: fact.position for known, fact in facts.items()})
        there = {row.key for row in found}
        gone = Counter(
            CHANGED_SINCE if keys[known] in there else NO_ROW for known in ids if known not in rows
        )
        return gone + await self._take(feed, list(rows.values())), count

    async def _take(self, feed: Feed, rows: Sequence[SourceRow]) -> Counter[str]:
        """Store what was read in the deliveries. Returns why some stay as they are."""
        sifted = sift(feed.filter, rows)
        selections = self._ledger.selections
        await selections.give_payload(feed.name, sifted.sent, self._stamp)
        reasons = {delivery_id(feed.name, row): reason for row, reason in sifted.skipped}
        reasons |= {delivery_id(feed.name, row): row.error or "" for row in sifted.unreadable}
        await selections.give_reason(reasons, self._stamp)
        return Counter({FILTERED: len(sifted.skipped), STILL_UNREADABLE: len(sifted.unreadable)})


def _one_each(
    feed: Feed, found: Sequence[SourceRow], places: Mapping[str, object]
) -> dict[str, SourceRow]:
    """Id → row, for the ids in `places`; of rows that share a key, the one at the position where it
    was logged.
    """
    chosen: dict[str, SourceRow] = {}
    for row in found:
        known = delivery_id(feed.name, row)
        if known in places and (known not in chosen or row.position == places[known]):
            chosen[known] = row
    return chosen
