"""How a user is told: the mail server of the installation, or a webhook of theirs."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from app.console.errors import Invalid
from app.console.notifications.schemas import Channel
from app.console.security.roles import Role
from app.console.security.sealing import Sealing
from app.console.store.tables import NotificationSettings, User
from app.core.url import parse_url
from app.runtime.senders import mails
from app.sending.addresses import Guarded
from app.sending.outgoing import NotSent, Outgoing, Sender
from app.sending.webhook import Webhook
from config import Settings


@dataclass(frozen=True, slots=True)
class Way:
    """How one user is told."""

    sender: Sender
    secret: str = ""
    """What of its address no error may tell."""


def way_of(kept: NotificationSettings, user: User, settings: Settings, sealing: Sealing) -> Way:
    """The way that the user chose. Raises `Invalid`, which says what it lacks."""
    if kept.channel == Channel.WEBHOOK:
        if not kept.webhook_url:
            raise Invalid("a webhook takes its URL", "body.webhook_url")
        url = sealing.open(kept.webhook_url)
        if url is None:
            said = "the webhook's URL cannot be read under this CONSOLE_SECRET: enter it again"
            raise Invalid(said, "body.webhook_url")
        target = parse_url(url).target
        return Way(Webhook(SecretStr(url), None, guard_of(user)), target if len(target) > 1 else "")
    if not user.email:
        raise Invalid("mail takes an address: give your profile one", "body.channel")
    senders = mails(settings, user.email)
    if not senders or not settings.report_mail_from:
        raise Invalid(
            "no mail server is configured: it takes SMTP_HOST and REPORT_MAIL_FROM", "body.channel"
        )
    return Way(senders[0])


def guard_of(user: User) -> Guarded:
    """Which addresses the user's webhook may call: an admin's those inside the network too."""
    return Guarded(inside=user.role == Role.ADMIN.value)


async def may_use(url: str, user: User) -> None:
    """Raise `Invalid` where the user's webhook may not call where that URL leads now. A name that is
    not found today may be tomorrow."""
    parsed, guard = parse_url(url), guard_of(user)
    try:
        await guard.find(parsed.host, parsed.port)
    except PermissionError as error:
        raise Invalid(f"leads to {error.strerror}", "body.webhook_url") from error
    except OSError:
        return
    finally:
        await guard.close()


async def tried(way: Way, outgoing: Outgoing) -> str | None:
    """Send it. Returns why it was not taken, without the webhook's path and query, or `None`."""
    try:
        await way.sender.send(outgoing)
    except NotSent as error:
        said = str(error)
        return said.replace(way.secret, "/…") if way.secret else said
    return None
