"""What an operator names: a delivery by its key, as people write it, and a feed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from app.core.errors import AmbiguousKey, UnknownFeed
from app.core.keys import readings
from app.ledger import Ledger

LOOKED_FOR = 4000
"""Ids that are looked for together, the likeliest first: a text with many colons has thousands of
readings, of each feed, and all of them must go into one question."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was found under a key."""

    text: str
    """As it was typed."""
    ids: tuple[str, ...] = ()
    """Of deliveries: more than one where a row has several changes, or the text may be read in
    several ways.
    """
    exact: bool = True
    """Else the text is how their keys begin."""


async def look_up(
    ledger: Ledger, text: str, feeds: Iterable[str], only: str | None = None
) -> Lookup:
    """The deliveries that a typed text means: an id, or a key, with the feed in front of it or
    without.

    `feeds`: those that are configured; `only`: of this feed alone. What is meant most exactly
    counts: an id as it stands in the ledger; then a key of the feed that is named in front; then a
    key of any feed; then the beginning of one, which has all changes of a row. Raises the ledger's
    errors.
    """
    names = [only] if only else list(dict.fromkeys([*feeds, *await ledger.cursors.feeds()]))
    in_front = [name for name in names if text.startswith(f"{name}:")]
    named = [f"{name}:{key}" for name in in_front for key in readings(text[len(name) + 1 :])]
    bare = [f"{name}:{key}" for key in readings(text) for name in names]
    named, bare = named[:LOOKED_FOR], bare[:LOOKED_FOR]
    if exact := await ledger.listing.there([text] if not only or in_front else []):
        return Lookup(text, tuple(exact))
    for ids in (named, bare):
        if found := await ledger.listing.there(ids):
            return Lookup(text, tuple(found))
        if found := await ledger.listing.beginning(ids):
            return Lookup(text, tuple(dict.fromkeys(found)), exact=False)
    return Lookup(text)


async def ids_meant(
    ledger: Ledger, texts: Iterable[str], feeds: Collection[str], only: str | None = None
) -> list[str]:
    """The ids of what was typed, each as `look_up` finds it; what is not found stays as it is.

    Raises `AmbiguousKey` for what means several deliveries, and the ledger's errors.
    """
    asked = list(dict.fromkeys(texts))
    known = {*await ledger.listing.there(asked)}
    found: list[str] = []
    for text in asked:
        ids = (text,) if text in known else (await look_up(ledger, text, feeds, only)).ids
        if len(ids) > 1:
            raise AmbiguousKey(text, ids)
        found.append(ids[0] if ids else text)
    return list(dict.fromkeys(found))


async def require_feeds(ledger: Ledger, configured: Collection[str], named: Iterable[str]) -> None:
    """Raises `UnknownFeed` for a name that neither `feeds.toml` nor the ledger knows, and the
    ledger's errors.
    """
    others = [name for name in named if name not in configured]
    if not others:
        return
    left = await ledger.cursors.feeds()
    for name in others:
        if name not in left and not await ledger.listing.any_of(name):
            raise UnknownFeed(name, _known(configured, left))


def _known(configured: Collection[str], left: Sequence[str]) -> list[str]:
    return [*configured, *(f"{name} (not configured)" for name in left if name not in configured)]
