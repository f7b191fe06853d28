"""The process's event loop and its clients: one of each, whatever the pool's threads.

Nothing opens at import. The loop starts, and the clients open, with the first task after the fork; all close at
shutdown, once what was handed over has ended. Pool threads hand their work over with `call` and do not wait for it
(`app/core/under_way.py`), so no partner, however slow, holds one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import SecretStr

from app.broker.depths import Broker
from app.broker.queue import SiftedQueue
from app.configuration.loaded import LiveFeeds, Loaded
from app.core.budget import Budget
from app.core.period import Kind
from app.core.under_way import UnderWay
from app.delivery.deliver import Delivering, DeliverySettings
from app.delivery.dispatch import Dispatch
from app.delivery.sweep import Sweeping
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.jobs.jobs import works
from app.jobs.periodic import Periodic
from app.ledger import Ledger
from app.monitoring.health import Bounds
from app.monitoring.heartbeat import Activity
from app.notifications.conditions import Conditions, Limits, breakers_of
from app.notifications.notification import Form
from app.notifications.notify import Notifying
from app.partner.client import PartnerClient
from app.partner.throttle.store import ThrottleStore
from app.partner.throttle.throttle import Throttles
from app.reconcile import Reconciling
from app.reports.mail import Mail, MailServer
from app.reports.reporting import Reporting
from app.reports.sending import Sender
from app.reports.webhook import Webhook
from app.retention.purge import PurgeSettings, Purging
from app.runtime import descriptors
from app.runtime.timekeeping import Timekeeper
from app.source.engine import open_engine
from app.source.reader import Source
from config import Config, Settings

try:
    import uvloop as loops
except ImportError:  # uvloop has no Windows build
    import asyncio as loops  # type: ignore[no-redef] # the one function used has one shape in both

log = structlog.get_logger()

T = TypeVar("T")

COLLECT_AFTER = 10_000
"""Objects made and not freed before Python looks for cycles among them; its own default is 700, and a few batches under
way hold more than that at any moment."""


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of one process, over clients that live on its loop."""

    config: Config | Loaded
    ledger: Ledger
    source: Source
    partner: PartnerClient
    clocks: Throttles
    polling: Polling
    reconciling: Reconciling
    delivering: Delivering
    dispatch: Dispatch
    under_way: UnderWay
    sweeping: Sweeping
    reporting: Reporting
    purging: Purging
    periodic: Periodic
    notifying: Notifying
    opened: AsyncExitStack

    def take(self, feeds: Mapping[str, Feed], removed: Iterable[str] = ()) -> None:
        """Go by these feeds from now on; `removed`: those that there were and are no more. Call it on the event loop,
        in one step with `Loaded.replace`: so a batch, a poll or a job's step that is under way ends with the feed that
        it began with, and what begins later knows only the new one.

        Raises `ConfigError`, and then nothing has changed, for a feed whose requests cannot be sent.
        """
        self.partner.serve(feeds.values())
        need = descriptors.need_of(feeds.values(), self.config.settings.worker_concurrency)
        self.clocks.take(feeds, removed, descriptors.part_that_fits(need, descriptors.raise_limit(need).soft))
        self.periodic.take(works(feeds.values(), self.reporting, self.reconciling, self.purging))

    def drain(self, grace: timedelta) -> None:
        """Begin nothing more, and give requests and jobs under way `grace` to end. Call it on the event loop."""
        if not self.delivering.draining:
            self.polling.drain()
            self.delivering.drain(grace)
            self.periodic.drain(grace)

    async def close(self) -> None:
        """End what is under way, then close every client, the last opened first.

        A process that was not told to stop, as one of a pool after so many tasks, first has `SHUTDOWN_GRACE` to finish
        what it holds: giving it back unsent each time would get it nowhere.
        """
        grace = self.config.settings.shutdown_grace
        if not self.delivering.draining:
            self.polling.drain()
            self.dispatch.retire()
            await self.under_way.finished(grace)
        self.drain(grace)
        await self.under_way.finished()
        await self.opened.aclose()


async def open_services(config: Config | Loaded, queue: SiftedQueue, progress: Activity | None = None) -> Services:
    """Open the clients, and make the ledger's indexes. What was open when one fails is closed again.

    Of a configuration that is replaced meanwhile, its feeds are those at the end: they are asked for where nothing more
    is waited for.

    `progress`: where it is told what the process does, and what fails.

    Raises `LedgerUnavailable` where the ledger cannot be reached, `ConfigError` for a source that cannot be opened.
    """
    settings, progress = config.settings, progress or Activity()
    async with AsyncExitStack() as opened:
        ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
        opened.push_async_callback(ledger.close)
        timekeeper = Timekeeper(ledger)
        opened.push_async_callback(timekeeper.close)
        await timekeeper.start()
        await ledger.prepare()
        url = settings.source_url.get_secret_value()
        budget = Budget(settings.memory_for_rows)
        source = Source(open_engine(url, settings.connect_timeout, settings.statement_timeout), budget)
        opened.push_async_callback(source.close)
        worker, feeds = process_name(), LiveFeeds(config)
        need = descriptors.need_of(config.feeds.values(), settings.worker_concurrency)
        part = descriptors.part_that_fits(need, descriptors.limit().soft)
        clocks = Throttles(ThrottleStore(settings.redis_url.get_secret_value(), worker), part=part)
        opened.push_async_callback(clocks.close)
        clocks.start()
        broker = Broker(settings.redis_url.get_secret_value(), settings.connect_timeout)
        opened.push_async_callback(broker.close)
        partner = PartnerClient(config.feeds.values(), clocks)
        opened.push_async_callback(partner.close)
        terms = DeliverySettings(worker, settings.lease, settings.group_size, settings.group_wait)
        reconciling = Reconciling(source, ledger, queue, message_wait=settings.lease)
        reporting = open_reporting(config, ledger)
        purge_terms = PurgeSettings(worker, settings.lease, settings.purge_share, settings.archive_dir)
        purging = Purging(ledger, feeds, purge_terms, prune_files=reporting.prune)
        troubles = progress.troubles
        delivering = Delivering(ledger, partner, terms, clocks=clocks, queue=queue, troubles=troubles, budget=budget)
        under_way = UnderWay(progress)
        work = works(config.feeds.values(), reporting, reconciling, purging)
        return Services(
            config=config,
            ledger=ledger,
            source=source,
            partner=partner,
            clocks=clocks,
            polling=Polling(source, ledger, queue, message_wait=settings.lease),
            reconciling=reconciling,
            delivering=delivering,
            dispatch=Dispatch(
                delivering,
                ledger,
                clocks,
                under_way,
                feeds,
                most_batches=settings.worker_batches,
                lease=settings.lease,
            ),
            under_way=under_way,
            sweeping=Sweeping(ledger, queue, feeds, lease=settings.lease, limit=settings.sweep_limit),
            reporting=reporting,
            purging=purging,
            notifying=open_notifying(config, ledger, broker),
            periodic=Periodic(ledger, work, zone=settings.zone, worker=worker, lease=settings.lease),
            opened=opened.pop_all(),
        )


def process_name() -> str:
    """This process, for others to read: leases, attempts and jobs name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_reporting(config: Config | Loaded, ledger: Ledger) -> Reporting:
    """Reports as the settings have them. Opens nothing until one is sent."""
    settings = config.settings
    kinds = [Kind(name) for name in settings.report_send.split(",")]
    senders = [
        *mails(settings, settings.report_mail_to),
        *_webhook(settings.report_webhook_url, settings.report_webhook_secret),
    ]
    return Reporting(
        ledger, LiveFeeds(config), zone=settings.zone, folder=settings.reports_dir, senders=senders, sent=kinds
    )


def open_notifying(config: Config | Loaded, ledger: Ledger, broker: Broker) -> Notifying:
    """Notifications as the settings have them. Opens nothing until one is sent."""
    settings, feeds = config.settings, LiveFeeds(config)
    limits = Limits(settings.notify_dead, settings.notify_oldest)
    conditions = Conditions(
        ledger, feeds, limits, lambda: Bounds.of(feeds.values(), settings), breakers_of(broker, feeds)
    )
    return Notifying(
        ledger,
        conditions,
        [
            *mails(settings, settings.notify_mail_to),
            *_webhook(settings.notify_webhook_url, settings.notify_webhook_secret),
        ],
        Form(settings.notify_webhook_format),
        remind=settings.notify_remind,
        zone=settings.zone,
    )


@asynccontextmanager
async def notifying_alone(config: Config | Loaded) -> AsyncIterator[Notifying]:
    """The same for who has no services, over clients of its own that connect on first use."""
    settings = config.settings
    ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
    broker = Broker(settings.redis_url.get_secret_value(), settings.connect_timeout)
    try:
        yield open_notifying(config, ledger, broker)
    finally:
        await broker.close()
        await ledger.close()


def mails(settings: Settings, to: str) -> list[Mail]:
    """What sends mail to these addresses, separated by commas; nothing where none is configured."""
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


def _webhook(url: SecretStr, secret: SecretStr) -> list[Sender]:
    if not url.get_secret_value():
        return []
    return [Webhook(url, secret if secret.get_secret_value() else None)]


class Runtime:
    """One event loop in one thread, and the services on it, opened on first use."""

    def __init__(self, opening: Callable[[], Awaitable[Services]]) -> None:
        self._opening = opening
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._services: Services | None = None
        self._opened: asyncio.Lock | None = None

    def run(self, use_case: Callable[[Services], Awaitable[T]]) -> T:
        """Run a use case on the loop, from any other thread; return what it returns, raise what it raises."""
        loop = self._started_loop()
        return asyncio.run_coroutine_threadsafe(self._with_services(use_case), loop).result()

    def call(self, function: Callable[[Services], None]) -> None:
        """Have a function called on the loop, from any other thread, and return without waiting for it.

        The first call waits until the services are open, and raises what keeps them from it.
        """
        services = self._services or self.run(_services)
        self._started_loop().call_soon_threadsafe(function, services)

    def drain(self, grace: timedelta) -> None:
        """Send nothing more, and give requests and jobs under way `grace` to end. Returns at once; safe in a signal
        handler."""
        loop, services = self._loop, self._services
        if loop and services:
            loop.call_soon_threadsafe(services.drain, grace)

    def change(self, apply: Callable[[Services | None], None]) -> None:
        """Have it called between two steps of the loop, with the services where they are open; where no loop has
        started, here. Waits for it, and raises what it raises."""
        with self._starting:
            if self._loop is None:
                return apply(None)
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(self._change(apply), loop).result()

    async def _change(self, apply: Callable[[Services | None], None]) -> None:
        apply(self._services)

    def held(self) -> Mapping[str, tuple[int, int]]:
        """Feed → batches under way and rows in them. From any thread."""
        services = self._services
        return services.dispatch.shares.held() if services else {}

    def ping(self, answered: Callable[[], None]) -> bool:
        """Have the loop call `answered` as soon as it gets to it. `False`: no task has started it yet."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        loop.call_soon_threadsafe(answered)
        return True

    def close(self) -> None:
        """End what is under way, close the services and stop the loop. A later `run` would open them anew."""
        with self._starting:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._close_services(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            self._loop = self._thread = None
            gc.unfreeze()

    def _started_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = loops.new_event_loop()
                self._opened = asyncio.Lock()
                self._thread = threading.Thread(target=self._loop.run_forever, name="rowrelay-loop", daemon=True)
                self._thread.start()
            return self._loop

    async def _with_services(self, use_case: Callable[[Services], Awaitable[T]]) -> T:
        assert self._opened is not None  # noqa: S101 - made with the loop that runs us
        async with self._opened:
            if self._services is None:
                self._services = await self._opening()
                spare_from_collection()
                log.info("services_opened", pid=os.getpid())
        return await use_case(self._services)

    async def _close_services(self) -> None:
        if self._services is not None:
            await self._services.close()
            self._services = None


async def _services(services: Services) -> Services:
    return services


def spare_from_collection() -> None:
    """Keep Python's cycle collector from walking, with every few hundred rows, through all that a process has loaded.

    Modules, feeds and clients stay until the end. What is made from here on is collected as before, less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
