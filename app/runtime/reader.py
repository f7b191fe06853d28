"""The reader role: what `status`, `health`, `metrics` and other questions need of the servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from app.runtime import clients

if TYPE_CHECKING:
    from app.broker.depths import Broker
    from app.configuration.loaded import Loaded
    from app.ledger import Ledger
    from app.monitoring.metrics.collect import Exporter
    from app.source.reader import Source
    from config import Config


class Reader:
    """The servers of one installation, each opened on first use. On one event loop."""

    def __init__(self, config: Config | Loaded, closing: AsyncExitStack) -> None:
        """`closing`: closes whatever is opened."""
        self.config = config
        self._closing = closing

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger. Raises `LedgerRefused` for a URL that is malformed."""
        ledger = clients.open_ledger(self.config.settings)
        self._closing.push_async_callback(ledger.close)
        return ledger

    @cached_property
    def broker(self) -> Broker:
        """Redis: queue depths, breakers and cooldowns."""
        broker = clients.open_broker(self.config.settings)
        self._closing.push_async_callback(broker.close)
        return broker

    @cached_property
    def source(self) -> Source:
        """The source. Raises `ConfigError` where it cannot be opened."""
        source = clients.open_source(self.config.settings)
        self._closing.push_async_callback(source.close)
        return source

    @cached_property
    def exporter(self) -> Exporter:
        """Collects metrics from all three. Raises `ConfigError` as `source` does."""
        from app.broker.queue import QUEUES  # noqa: PLC0415 - with the drivers of all servers
        from app.monitoring.metrics.collect import Exporter  # noqa: PLC0415 - as above

        exporter = Exporter(self.config, self.ledger, self.broker, self.source, queues=QUEUES)
        self._closing.push_async_callback(exporter.close)
        return exporter


@asynccontextmanager
async def open_reader(config: Config | Loaded) -> AsyncIterator[Reader]:
    """A reader; closes at the end whatever it opened. Connects to nothing by itself, so it never
    raises.
    """
    async with AsyncExitStack() as closing:
        yield Reader(config, closing)
