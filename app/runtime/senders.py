"""Reports and notifications as configured: recipients, mail server, webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from app.broker.depths import Broker
from app.configuration.loaded import LiveFeeds, Loaded
from app.core.period import Kind
from app.ledger import Ledger
from app.monitoring.health import Bounds
from app.notifications.conditions import Conditions, Limits, breakers_of
from app.notifications.notification import Form
from app.notifications.notify import Notifying
from app.reports.reporting import Reporting
from app.runtime.reader import open_reader
from app.sending.mail import Mail, MailServer
from app.sending.outgoing import Sender
from app.sending.webhook import Webhook
from config import Config, Settings


def reporting_of(config: Config | Loaded, ledger: Ledger) -> Reporting:
    """Reports. Opens nothing until one is sent."""
    settings = config.settings
    return Reporting(
        ledger,
        LiveFeeds(config),
        zone=settings.zone,
        folder=settings.reports_dir,
        senders=[
            *mails(settings, settings.report_mail_to),
            *_webhooks(settings.report_webhook_url, settings.report_webhook_secret),
        ],
        sent=[Kind(name) for name in settings.report_send.split(",")],
    )


def conditions_of(config: Config | Loaded, ledger: Ledger, broker: Broker) -> Conditions:
    """What finds the events that are on."""
    settings, feeds = config.settings, LiveFeeds(config)
    return Conditions(
        ledger,
        feeds,
        Limits(settings.notify_dead, settings.notify_oldest),
        lambda: Bounds.of(feeds.values(), settings),
        breakers_of(broker, feeds),
    )


def notifying_of(config: Config | Loaded, ledger: Ledger, broker: Broker) -> Notifying:
    """Notifications. Opens nothing until one is sent."""
    settings = config.settings
    return Notifying(
        ledger,
        conditions_of(config, ledger, broker),
        [
            *mails(settings, settings.notify_mail_to),
            *_webhooks(settings.notify_webhook_url, settings.notify_webhook_secret),
        ],
        Form(settings.notify_webhook_format),
        remind=settings.notify_remind,
        zone=settings.zone,
    )


@asynccontextmanager
async def open_notifying(config: Config | Loaded) -> AsyncIterator[Notifying]:
    """Notifications for a process without a worker's services, over clients that connect on first
    use.
    """
    async with open_reader(config) as reader:
        yield notifying_of(config, reader.ledger, reader.broker)


def mails(settings: Settings, to: str) -> list[Mail]:
    """The mail sender for these comma-separated addresses; none if mail is not configured."""
    recipients = tuple(address.strip() for address in to.split(",") if address.strip())
    if not settings.smtp_host or not recipients:
        return []
    server = MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user,
        settings.smtp_password,
        Path(settings.smtp_ca_file) if settings.smtp_ca_file else None,
    )
    return [Mail(server, settings.report_mail_from, recipients)]


def _webhooks(url: SecretStr, secret: SecretStr) -> list[Sender]:
    if not url.get_secret_value():
        return []
    return [Webhook(url, secret if secret.get_secret_value() else None)]
