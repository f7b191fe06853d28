"""The reader: what `status`, `health`, `metrics` and whoever else only asks needs of the servers."""

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
    """The servers of one installation, each opened by the first question to it. On one event loop."""

    def __init__(self, config: Config | Loaded, closing: AsyncExitStack) -> None:
        """`closing`: where what is opened is left to be closed."""
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
        """Redis, for what waits in it and how endpoints fare."""
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
        """What collects metrics from all three. Raises `ConfigError` as `source` does."""
        from app.broker.queue import QUEUES  # noqa: PLC0415 - with the drivers of all servers
        from app.monitoring.metrics.collect import Exporter  # noqa: PLC0415 - as above

        exporter = Exporter(self.config, self.ledger, self.broker, self.source, queues=QUEUES)
        self._closing.push_async_callback(exporter.close)
        return exporter


@asynccontextmanager
async def open_reader(config: Config | Loaded) -> AsyncIterator[Reader]:
    """A reader; what it opened is closed at the end. Connects to nothing by itself, so it raises nothing."""
    async with AsyncExitStack() as closing:
        yield Reader(config, closing)
