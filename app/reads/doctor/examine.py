"""All checks of `doctor`, at once, so that several servers that do not answer cost no more time
than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.core.clock import utc_now
from app.core.errors import RowrelayError
from app.ledger.unconfigured import unconfigured
from app.reads.doctor.broker import Clients, check_broker
from app.reads.doctor.check import Check, Servers, found
from app.reads.doctor.ledger import check_ledger
from app.reads.doctor.machine import check_machine
from app.reads.doctor.partner import OpenPartner, check_partners, check_ways
from app.reads.doctor.source import check_source
from app.sending.mail import Mail
from app.source.findings import Level
from config import Config


@dataclass(frozen=True, slots=True)
class Examined:
    """Besides the configuration, what is to be examined."""

    servers: Servers
    queue_clients: Clients
    """What connects to Redis as worker, beat and others do."""
    mails: Iterable[Mail]
    of_machine: Iterable[Check]
    """What a worker itself says of this machine."""
    open_partner: OpenPartner | None = None
    """Where each partner is to be asked with HEAD."""


async def examine(config: Config, examined: Examined) -> list[Check]:
    """Every check, in the order in which they are shown. Raises nothing that a check can tell."""
    settings, feeds = config.settings, config.feeds
    servers, patience = examined.servers, settings.connect_timeout
    checks = await asyncio.gather(
        check_broker(servers, settings, examined.queue_clients),
        check_ledger(servers, patience),
        check_source(servers, feeds, settings.source_url.get_secret_value(), patience),
        _check_others(servers, feeds),
        check_machine(settings, examined.of_machine),
        check_ways(settings, examined.mails),
        check_partners(feeds.values(), patience, examined.open_partner),
    )
    return [check for of_each in checks for check in of_each]


async def _check_others(servers: Servers, feeds: Mapping[str, object]) -> list[Check]:
    """Feeds that owe something and that nobody sends. A ledger that does not answer is told by its
    own check.
    """
    try:
        others = await unconfigured(servers.ledger, feeds)
    except RowrelayError:
        return []
    return [found(f"feed {other.feed}", Level.WARNING, other.said(utc_now())) for other in others]
