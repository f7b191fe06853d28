"""The operator role: use cases that change something on somebody's behalf, over a reader's clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from app.configuration.loaded import LiveFeeds
from app.runtime import clients
from app.runtime.process import delivery_settings, process_name, purge_settings
from app.runtime.reader import Reader

if TYPE_CHECKING:
    from app.broker.queue import KnockingQueue
    from app.configuration.loaded import Loaded
    from app.feeds.feed import Feed
    from app.operations.bulk import Bulk
    from app.operations.bulk_runner import OperationRunner
    from app.operations.replay import Replaying
    from app.operations.rewind import Rewinding
    from app.operations.trial import Trial
    from app.reconcile import Reconciling
    from app.reports.reporting import Reporting
    from app.retention.archive.restore import Restoring
    from app.retention.purge import Purging
    from config import Config

OpenQueue = Callable[[], "KnockingQueue"]
"""Opens the queue to the workers. That loads Celery, so only what publishes calls it."""


class Operator(Reader):
    """The use cases that a person or a program starts by hand. On one event loop."""

    def __init__(
        self, config: Config | Loaded, closing: AsyncExitStack, open_queue: OpenQueue
    ) -> None:
        super().__init__(config, closing)
        self._open_queue = open_queue

    @property
    def feeds(self) -> Mapping[str, Feed]:
        """The feeds, as they are at each moment: a console runs while feeds.toml changes."""
        return LiveFeeds(self.config)

    @cached_property
    def queue(self) -> KnockingQueue:
        """Where batches are published. Connects on first use."""
        return self._open_queue()

    @cached_property
    def replaying(self) -> Replaying:
        """Puts deliveries back to queued, of the feeds as they are at each moment."""
        from app.operations.replay import Replaying  # noqa: PLC0415 - each command loads the use case that it runs

        settings = self.config.settings
        return Replaying(
            self.ledger,
            self.queue,
            self.feeds,
            message_wait=settings.lease,
            source=lambda: self.source,
        )

    @cached_property
    def bulk(self) -> Bulk:
        """Operations in bulk, as operators see them."""
        from app.operations.bulk import Bulk  # noqa: PLC0415 - as above

        return Bulk(self.ledger, lambda: self.feeds, lambda: self.replaying)

    @cached_property
    def operation_runner(self) -> OperationRunner:
        """Works on operations in bulk."""
        from app.operations.bulk_run import RunSettings  # noqa: PLC0415 - as above
        from app.operations.bulk_runner import OperationRunner  # noqa: PLC0415 - as above

        settings = RunSettings(process_name(), self.config.settings.lease)
        return OperationRunner(self.ledger, lambda: self.feeds, lambda: self.replaying, settings)

    def reconciling(self, *, heal_at_most: int) -> Reconciling:
        """Compares the source with the ledger. `heal_at_most`: rows that one run logs."""
        from app.reconcile import Reconciling  # noqa: PLC0415 - as above

        wait = self.config.settings.lease
        return Reconciling(
            self.source, self.ledger, self.queue, message_wait=wait, heal_at_most=heal_at_most
        )

    @cached_property
    def rewinding(self) -> Rewinding:
        """Moves a feed's cursor."""
        from app.operations.rewind import Rewinding  # noqa: PLC0415 - as above

        return Rewinding(self.source, self.ledger)

    @cached_property
    def reporting(self) -> Reporting:
        """Compiles and sends reports."""
        from app.runtime.senders import reporting_of  # noqa: PLC0415 - as above

        return reporting_of(self.config, self.ledger)

    @cached_property
    def purging(self) -> Purging:
        """Deletes what a feed's retention no longer keeps."""
        from app.retention.purge import Purging  # noqa: PLC0415 - as above

        keeping = purge_settings(self.config.settings)
        return Purging(self.ledger, self.feeds, keeping, prune_files=self.reporting.prune)

    @cached_property
    def restoring(self) -> Restoring:
        """Restores archived records."""
        from app.retention.archive.restore import Restoring  # noqa: PLC0415 - as above
        from app.retention.purge_lock import PurgeLock  # noqa: PLC0415 - as above

        return Restoring(
            self.ledger, PurgeLock(self.ledger, process_name(), self.config.settings.lease)
        )

    async def trial(self, feed: Feed) -> tuple[Trial, bool]:
        """Sends one row of the feed to its partner; and whether Redis could tell if the endpoint is
        throttled.

        Raises `ConfigError` for a feed whose requests cannot be sent.
        """
        from app.operations.trial import SHOWN_HEADERS, Trial  # noqa: PLC0415 - as above
        from app.partner.throttle.throttles import Throttles  # noqa: PLC0415 - as above

        settings = self.config.settings
        store = clients.open_throttle_store(settings, process_name())
        throttles = Throttles(store)
        self._closing.push_async_callback(throttles.close)
        throttles.start()
        await throttles.of(feed)
        partner = clients.open_partners([feed], throttles, shown=SHOWN_HEADERS)
        self._closing.push_async_callback(partner.close)
        trial = Trial(feed, self.ledger, partner, throttles, settings=delivery_settings(settings))
        return trial, store.up


def _no_queue() -> KnockingQueue:
    raise AssertionError("an operator that publishes is opened with the queue to publish to")


@asynccontextmanager
async def open_operator(
    config: Config | Loaded, open_queue: OpenQueue = _no_queue
) -> AsyncIterator[Operator]:
    """An operator; closes at the end whatever it opened. Connects to nothing by itself, so it never
    raises.
    """
    async with AsyncExitStack() as closing:
        yield Operator(config, closing, open_queue)
