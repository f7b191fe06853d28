"""The worker role: its clients, and the use cases wired over them. One set per process
(`app/runtime/loop.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from app.broker.depths import Broker
from app.broker.queue import SiftedQueue
from app.configuration.loaded import LiveFeeds, Loaded
from app.core.budget import Budget
from app.core.under_way import UnderWay
from app.delivery.deliver import Delivering
from app.delivery.dispatch import Dispatch
from app.delivery.sweep import Sweeping
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.jobs.jobs import works
from app.jobs.periodic import Periodic
from app.ledger import Ledger
from app.monitoring.heartbeat import Activity
from app.notifications.notify import Notifying
from app.partner.client import PartnerClient
from app.partner.throttle.throttles import Throttles
from app.reconcile import Reconciling
from app.reports.reporting import Reporting
from app.retention.purge import Purging
from app.runtime import clients, descriptors
from app.runtime.process import delivery_settings, process_name, purge_settings
from app.runtime.senders import notifying_of, reporting_of
from app.runtime.timekeeping import Timekeeper
from app.source.reader import Source
from config import Config


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of one process, over clients that live on its loop."""

    config: Config | Loaded
    ledger: Ledger
    source: Source
    partner: PartnerClient
    throttles: Throttles
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

    def take(self, feeds: Mapping[str, Feed], removed: Iterable[str] = ()) -> None:
        """Go by these feeds from now on; `removed`: those that there were and are no more. Call it
        on the event loop, in one step with `Loaded.replace`: so a batch, a poll or a job's step
        that is under way ends with the feed that it began with, and what begins later knows only
        the new one.

        Raises `ConfigError`, and then nothing has changed, for a feed whose requests cannot be
        sent.
        """
        self.partner.serve(feeds.values())
        need = descriptors.need_of(feeds.values(), self.config.settings.worker_concurrency)
        self.throttles.take(
            feeds, removed, descriptors.part_that_fits(need, descriptors.raise_limit(need).soft)
        )
        self.periodic.take(works(feeds.values(), self.reporting, self.reconciling, self.purging))

    def drain(self, grace: timedelta) -> None:
        """Begin nothing more, and give requests and jobs under way `grace` to end. Call it on the
        event loop.
        """
        if not self.delivering.draining:
            self.polling.drain()
            self.delivering.drain(grace)
            self.periodic.drain(grace)

    async def finish(self) -> None:
        """End what is under way.

        A process that was not told to stop, as one of a pool after so many tasks, first has
        `SHUTDOWN_GRACE` to finish what it holds: giving it back unsent each time would get it
        nowhere.
        """
        grace = self.config.settings.shutdown_grace
        if not self.delivering.draining:
            self.polling.drain()
            self.dispatch.retire()
            await self.under_way.finished(grace)
        self.drain(grace)
        await self.under_way.finished()


@asynccontextmanager
async def open_worker(
    config: Config | Loaded,
    queue: SiftedQueue,
    progress: Activity | None = None,
    *,
    delivers: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Services]:
    """Open the clients, and make the ledger's indexes. At the end what is under way ends first,
    then every client is closed, the last opened first. What was open when one fails is closed
    again.

    Feeds are read after the last `await`: if the configuration is replaced while the clients open,
    the new feeds count.

    `progress`: where it is told what the process does, and what fails. `delivers`: whether it takes
    messages for batches, at this moment; then it takes some batches up without one.

    Raises `LedgerUnavailable` where the ledger cannot be reached, `ConfigError` for a source that
    cannot be opened.
    """
    async with AsyncExitStack() as closing:
        connected = await _connect(config, closing)
        services = _wire(config, connected, queue, progress or Activity(), delivers)
        try:
            yield services
        finally:
            await services.finish()


@dataclass(frozen=True, slots=True)
class _Clients:
    """What the use cases are wired over."""

    budget: Budget
    """The process's memory for rows."""
    ledger: Ledger
    source: Source
    throttles: Throttles
    broker: Broker
    partner: PartnerClient


async def _connect(config: Config | Loaded, closing: AsyncExitStack) -> _Clients:
    """Open the clients one by one; `closing` closes them. The ledger must answer before the next is
    opened.
    """
    settings = config.settings
    ledger = clients.open_ledger(settings)
    closing.push_async_callback(ledger.close)
    timekeeper = Timekeeper(ledger)
    closing.push_async_callback(timekeeper.close)
    await timekeeper.start()
    await ledger.prepare()
    budget = Budget(settings.memory_for_rows)
    source = clients.open_source(settings, budget)
    closing.push_async_callback(source.close)
    need = descriptors.need_of(config.feeds.values(), settings.worker_concurrency)
    part = descriptors.part_that_fits(need, descriptors.limit().soft)
    throttles = Throttles(clients.open_throttle_store(settings, process_name()), part=part)
    closing.push_async_callback(throttles.close)
    throttles.start()
    broker = clients.open_broker(settings)
    closing.push_async_callback(broker.close)
    partner = clients.open_partners(config.feeds.values(), throttles)
    closing.push_async_callback(partner.close)
    return _Clients(budget, ledger, source, throttles, broker, partner)


def _wire(
    config: Config | Loaded,
    of: _Clients,
    queue: SiftedQueue,
    progress: Activity,
    delivers: Callable[[], bool],
) -> Services:
    """The use cases over these clients."""
    settings, ledger, worker, feeds = config.settings, of.ledger, process_name(), LiveFeeds(config)
    delivering = Delivering(
        ledger,
        of.partner,
        delivery_settings(settings),
        throttles=of.throttles,
        queue=queue,
        troubles=progress.troubles,
        budget=of.budget,
    )
    under_way = UnderWay(progress)
    dispatch = Dispatch(
        delivering,
        ledger,
        of.throttles,
        under_way,
        feeds,
        most_batches=settings.worker_batches,
        lease=settings.lease,
    )
    reconciling = Reconciling(of.source, ledger, queue, message_wait=settings.lease)
    reporting = reporting_of(config, ledger)
    purging = Purging(ledger, feeds, purge_settings(settings), prune_files=reporting.prune)
    work = works(config.feeds.values(), reporting, reconciling, purging)
    return Services(
        config=config,
        ledger=ledger,
        source=of.source,
        partner=of.partner,
        throttles=of.throttles,
        polling=Polling(
            of.source,
            ledger,
            queue,
            message_wait=settings.lease,
            take=lambda batch, rows: delivers() and dispatch.take(batch, rows),
            process=worker,
        ),
        reconciling=reconciling,
        delivering=delivering,
        dispatch=dispatch,
        under_way=under_way,
        sweeping=Sweeping(
            ledger,
            queue,
            feeds,
            lease=settings.lease,
            limit=settings.sweep_limit,
            quiet=of.throttles.quiet,
        ),
        reporting=reporting,
        purging=purging,
        notifying=notifying_of(config, ledger, of.broker),
        periodic=Periodic(ledger, work, zone=settings.zone, worker=worker, lease=settings.lease),
    )
