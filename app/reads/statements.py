"""The statements that polling and reconciling a feed send, for a database administrator to review."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core.errors import ConfigError, SourceRefused, SourceUnavailable
from app.feeds.feed import Feed
from app.source.explain import Explained, explain_unseen
from app.source.reader import Source

USUAL = "mssql"
"""The product that statements are written for where nobody knows what the source is."""


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of one feed."""

    feed: str
    product: str
    """Whose dialect they are in."""
    note: str | None
    """What to know about them where the table was not looked at; `None`: it was."""
    statements: Sequence[Explained]


async def read_statements(
    feed: Feed, source: Callable[[], Source], product: str | None = None
) -> Statements:
    """The statements as the source gets them; where it cannot be asked, over the columns that the
    feed names. `source` opens it. `product`: one of `PRODUCTS`, to write for without connecting.

    Raises `SourceRefused` for a table name that cannot be read.
    """
    if product is not None:
        return _unseen(feed, product, "not asked")
    known = USUAL
    try:
        opened = source()
        known = opened.product
        return Statements(feed.name, known, None, await opened.explain(feed))
    except (ConfigError, SourceUnavailable, SourceRefused) as error:
        told = str(error).replace("\n", " ")
        return _unseen(feed, known, f"not seen ({told})")


def _unseen(feed: Feed, product: str, why: str) -> Statements:
    note = f"{why}: the columns are those that the feed names; {product}"
    return Statements(feed.name, product, note, explain_unseen(feed, product))
