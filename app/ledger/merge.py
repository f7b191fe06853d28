"""The first documents of several feeds by a moment, from an index in that order within each feed.

A server merges a few feeds from an index without sorting, and reads no more than it returns. So a
feed that is paused, or left out, costs nothing, however much it has waiting. Beyond `MERGED` feeds,
parts are merged here: MongoDB takes at most 200 for one merge (`internalQueryMaxScansToExplode`)
and sorts in memory where there are more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

from app.core.parts import in_parts
from app.ledger.client import Collection, Document

MERGED = 100
"""Feeds that a server is asked to merge at once."""
FEW = 200
"""Documents that are read without asking of each feed by itself."""


async def feeds_in(
    collection: Collection,
    wanted: Document,
    *,
    without: Container[str] = (),
    among: Container[str] | None = None,
) -> list[str]:
    """The feeds that have a document as `wanted`, but for some, or of these only: one step in an
    index that begins with the feed."""
    found = await collection.distinct("feed", wanted)
    return [feed for feed in found if feed not in without and (among is None or feed in among)]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of each feed, and in which order."""

    wanted: Document
    """The filter, but for the feed."""
    moment: str
    """The field to go by: of an index on the feed and it."""
    fields: Document
    """What is read of a document, beside the moment: the feed, and more."""


async def first_of(
    collection: Collection, order: Order, feeds: Sequence[str], limit: int
) -> list[Document]:
    """The first `limit` documents of these feeds."""
    found: list[Document] = []
    for part in in_parts(feeds, MERGED):
        some = {"feed": {"$in": part}, **order.wanted}
        asked = (
            collection.find(some, {order.moment: 1, **order.fields})
            .sort(order.moment, 1)
            .limit(limit)
        )
        found += await asked.to_list()
    return sorted(found, key=itemgetter(order.moment))[:limit] if len(feeds) > MERGED else found


async def first_of_each(
    collection: Collection, order: Order, feeds: Sequence[str], each: int
) -> list[Document]:
    """The first `each` documents of every feed, in the order of all: what one has waiting hides no
    other's.

    Where all feeds together have fewer than `FEW`, one question finds them.
    """
    found = await first_of(collection, order, feeds, FEW)
    if len(found) == FEW:
        return await _asked_of_each(collection, order, feeds, each)
    places: Counter[str] = Counter()
    first = []
    for document in found:
        places[document["feed"]] += 1
        if places[document["feed"]] <= each:
            first.append(document)
    return first


async def _asked_of_each(
    collection: Collection, order: Order, feeds: Sequence[str], each: int
) -> list[Document]:
    found = await asyncio.gather(*(first_of(collection, order, [feed], each) for feed in feeds))
    return sorted(chain.from_iterable(found), key=itemgetter(order.moment))


async def fair_first_of(
    collection: Collection, order: Order, feeds: Sequence[str], limit: int
) -> list[Document]:
    """The first `limit` documents of these feeds; where there are more, every feed has a part of
    them.
    """
    found = await first_of(collection, order, feeds, limit)
    if len(found) < limit or len(feeds) < 2:
        return found
    parts = await _asked_of_each(collection, order, feeds, max(1, limit // len(feeds)))
    chosen = {document["_id"]: document for document in (*parts, *found)}
    return list(chosen.values())[:limit]
