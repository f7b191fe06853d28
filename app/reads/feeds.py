"""The configured feeds, where each is read from and sent to, and whether it is paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.configuration.configured import Differs, Own, differing
from app.core.cursors import Cursor, FeedMove
from app.core.position import Position
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.unconfigured import Unconfigured, unconfigured
from app.partner.masking import feed_secrets, masked


@dataclass(frozen=True, slots=True)
class FeedSummary:
    """One feed."""

    feed: str
    table: str
    cursor: str
    """Strategy, and what it goes by."""
    partner: str
    """Where its rows go; secrets in the path are masked."""
    position: Position
    polled: bool
    sent: bool
    paused: str | None
    """What of it is paused, and why."""
    moves: Sequence[FeedMove]
    """What operators did with it lately, the latest last."""


@dataclass(frozen=True, slots=True)
class FeedList:
    """All feeds, and who does not agree about them."""

    feeds: list[FeedSummary]
    not_configured: list[Unconfigured]
    """That feeds.toml does not name, and that owe rows."""
    processes: list[Differs]
    """Workers and beat that run with another feeds.toml."""


async def read_feeds(ledger: Ledger, feeds: Mapping[str, Feed], own: Own | None) -> FeedList:
    """Every feed of `feeds`. `own`: the feeds.toml that they are of. Raises the ledger's errors."""
    found = [summary_of(feed, await ledger.cursors.get(name)) for name, feed in feeds.items()]
    return FeedList(found, await unconfigured(ledger, feeds), await differing(ledger, own))


def summary_of(feed: Feed, cursor: Cursor) -> FeedSummary:
    """A feed as it is configured, and where its cursor stands."""
    url = feed.partner.url
    return FeedSummary(
        feed=feed.name,
        table=feed.table,
        cursor=f"{feed.cursor.strategy} {feed.cursor.order}",
        partner=f"{url.scheme}://{url.host}:{url.port}{masked(url.path, feed_secrets(feed))}",
        position=cursor.position,
        polled=not cursor.paused,
        sent=cursor.sends,
        paused=cursor.stopped,
        moves=cursor.moves,
    )
