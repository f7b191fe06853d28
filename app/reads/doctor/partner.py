"""What `doctor` asks of partners, of the mail server and of the webhook. None is sent a row, a
message or a report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TypeAlias

from app.core.clock import AGREED, machine_now
from app.core.errors import RowrelayError
from app.core.unreached import why_unreached
from app.core.url import Url, parse_url
from app.feeds.feed import Feed
from app.feeds.partner import Tls
from app.partner.client import PartnerClient
from app.partner.exchange import Reply
from app.partner.failures import Undone
from app.partner.transport import tls_context
from app.reads.doctor.check import Check, checked, found
from app.sending.mail import Mail
from app.sending.outgoing import NotSent
from app.source.findings import Level
from config import Settings

OpenPartner: TypeAlias = Callable[[Feed], PartnerClient]


async def check_partners(
    feeds: Iterable[Feed], patience: timedelta, ask: OpenPartner | None
) -> list[Check]:
    """Each feed's partner: whether it accepts connections; with `ask`, which opens its client, what
    it answers to HEAD.

    `patience`: `CONNECT_TIMEOUT`.
    """
    each = [_check_partner(feed, patience.total_seconds(), ask) for feed in feeds]
    return [check for checks in await asyncio.gather(*each) for check in checks]


async def check_ways(settings: Settings, mails: Iterable[Mail]) -> list[Check]:
    """The ways by which reports and notifications are sent: those that are configured. Nothing is
    sent. `mails`: what sends mail to all whom either goes to."""
    seconds = settings.connect_timeout.total_seconds()
    webhooks = {
        "REPORT_WEBHOOK_URL": settings.report_webhook_url.get_secret_value(),
        "NOTIFY_WEBHOOK_URL": settings.notify_webhook_url.get_secret_value(),
    }
    checks = [
        await checked("mail (SMTP_HOST)", _rehearsal(mail, settings, seconds)) for mail in mails
    ]
    for name, url in webhooks.items():
        if url:
            checks.append(
                await checked(f"webhook ({name})", _connecting(parse_url(url), None, seconds))
            )
    return checks


def _rehearsal(mail: Mail, settings: Settings, seconds: float) -> Callable[[], Awaitable[str]]:
    """Hand in a mail up to its content, and take it back."""

    async def check() -> str:
        try:
            recipients = await mail.rehearse(seconds)
        except NotSent as error:
            raise RowrelayError(f"{settings.smtp_host}:{settings.smtp_port}: {error}") from error
        return f"{settings.smtp_host}:{settings.smtp_port} takes mail to {', '.join(recipients)}; nothing was sent"

    return check


def _connecting(url: Url, tls: Tls | None, seconds: float) -> Callable[[], Awaitable[str]]:
    """Connect to host and port, TLS included, and send nothing."""

    async def check() -> str:
        host, port = url.host, url.port
        context = tls_context(tls) if url.scheme == "https" else None
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
        except TimeoutError:
            raise TimeoutError(f"{host}:{port}: no answer within {seconds:g} s") from None
        except OSError as error:
            raise OSError(f"{host}:{port}: {why_unreached(error)}") from error
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return f"{host}:{port} accepts connections"

    return check


async def _check_partner(feed: Feed, seconds: float, ask: OpenPartner | None) -> list[Check]:
    name = f"partner {feed.name}"
    first = await checked(name, _connecting(feed.partner.url, feed.partner.tls, seconds))
    if not first.ok or ask is None:
        return [first]
    replies: list[Reply] = []

    async def head() -> str:
        async with ask(feed) as client:
            try:
                replies.append(await client.head(feed))
            except Undone as error:
                raise RowrelayError(str(error)) from error
        return f"answers {replies[0].status} to HEAD"

    asked = await checked(f"{name}: HEAD", head)
    return [
        first,
        *([_judged(asked, feed, replies[0]), *_clock(name, replies[0])] if replies else [asked]),
    ]


def _judged(asked: Check, feed: Feed, reply: Reply) -> Check:
    """What the status says of rows that will be sent there. Many partners do not know HEAD: that is
    no fault.
    """
    level, said = Level.OK, ""
    if reply.status in (401, 403):
        level, said = (
            Level.WARNING,
            f": it refuses our credentials: look at feeds.{feed.name}.partner.auth",
        )
    elif reply.status >= 500 or reply.status in (408, 429):
        level, said = Level.WARNING, ": it is not well just now"
    elif 300 <= reply.status <= 399:
        level, said = (
            Level.WARNING,
            f": a redirect is not followed: write where it leads to into feeds.{feed.name}.partner.url",
        )
    elif not 200 <= reply.status <= 299:
        said = f": it may not know HEAD; python -m app feeds test {feed.name} --send shows its answer to a row"
    return Check(asked.name, True, level, f"{asked.detail}{said}", asked.latency_ms)


def _clock(name: str, reply: Reply) -> list[Check]:
    """The partner's clock, by its `Date`: signatures and tokens are of a time."""
    with suppress(TypeError, ValueError):
        theirs = parsedate_to_datetime(reply.headers.joined("date") or "")
        seconds = (theirs - machine_now()).total_seconds()
        if abs(seconds) > AGREED.total_seconds():
            way = "ahead of" if seconds > 0 else "behind"
            return [
                found(
                    f"{name}: clock",
                    Level.WARNING,
                    f"its clock is {abs(seconds):.0f} s {way} this machine's",
                )
            ]
    return []
