"""Opens every client: of the ledger, Redis, the source and partners, as configured. Nothing else
does.

Each connects on first use. A driver is loaded when its first client is opened, so that a command
loads those of the servers it asks and no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from config import Settings

if TYPE_CHECKING:
    from app.broker.depths import Broker
    from app.core.budget import Budget
    from app.feeds.feed import Feed
    from app.ledger import Ledger
    from app.partner.client import PartnerClient
    from app.partner.throttle.store import ThrottleStore
    from app.partner.throttle.throttles import Throttles
    from app.source.reader import Source


def open_ledger(settings: Settings) -> Ledger:
    """The ledger at `MONGO_URL`. Raises `LedgerRefused` for a URL that is malformed."""
    return ledger_at(settings.mongo_url.get_secret_value(), settings.connect_timeout)


def ledger_at(url: str, connect_timeout: timedelta) -> Ledger:
    """The ledger at another URL, as that of an embedded server. Raises as above."""
    from app.ledger import Ledger  # noqa: PLC0415 - as the module says

    return Ledger.at(url, connect_timeout)


def open_broker(settings: Settings) -> Broker:
    """Redis at `REDIS_URL`, without Celery."""
    from app.broker.depths import Broker  # noqa: PLC0415 - as the module says

    return Broker(settings.redis_url.get_secret_value(), settings.connect_timeout)


def open_source(settings: Settings, budget: Budget | None = None) -> Source:
    """The source at `SOURCE_URL`. `budget`: the process's memory for rows. Raises `ConfigError` for
    a source that cannot be opened."""
    from app.source.engine import open_engine  # noqa: PLC0415 - as the module says
    from app.source.reader import Source  # noqa: PLC0415 - as the module says

    url = settings.source_url.get_secret_value()
    return Source(open_engine(url, settings.connect_timeout, settings.statement_timeout), budget)


def open_throttle_store(settings: Settings, process: str) -> ThrottleStore:
    """The store that all processes' throttles share. `process`: our name in it."""
    from app.partner.throttle.store import ThrottleStore  # noqa: PLC0415 - as the module says

    return ThrottleStore(settings.redis_url.get_secret_value(), process)


def open_partners(
    feeds: Iterable[Feed],
    throttles: Throttles | None = None,
    *,
    shown: tuple[str, ...] | None = None,
) -> PartnerClient:
    """One HTTP client for the feeds' partners. `shown`: the headers of an answer that are kept for
    somebody to look at.

    Raises `ConfigError` for a feed whose requests cannot be sent.
    """
    from app.partner.client import PartnerClient  # noqa: PLC0415 - as the module says

    return PartnerClient(feeds, throttles, shown=shown)
