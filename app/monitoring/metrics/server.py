"""Serves the metrics over HTTP, and prints them once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

import config
from app.broker.depths import Broker
from app.configuration.loaded import Loaded
from app.configuration.reload import Reloader
from app.ledger import Ledger
from app.monitoring.metrics.collect import Exporter
from app.monitoring.metrics.families import Sheet
from app.source.engine import open_engine
from app.source.reader import Source

log = structlog.get_logger()

PAGE = '<!doctype html><title>Rowrelay metrics</title><p><a href="/metrics">/metrics</a></p>\n'


class _Written(Collector):
    """A sheet, as the client library takes it."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def collect(self) -> Iterator[Metric]:
        return self._sheet.metrics()


@asynccontextmanager
async def opened(loaded: config.Config | Loaded, queues: Sequence[str]) -> AsyncIterator[Exporter]:
    """An exporter over clients of its own. Raises `ConfigError` for a source that cannot be opened."""
    settings = loaded.settings
    url = settings.source_url.get_secret_value()
    source = Source(open_engine(url, settings.connect_timeout, settings.statement_timeout))
    ledger = Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout)
    broker = Broker(settings.redis_url.get_secret_value(), settings.connect_timeout)
    exporter = Exporter(loaded, ledger, broker, source, queues=queues)
    try:
        yield exporter
    finally:
        await exporter.close()
        await broker.close()
        await ledger.close()
        await source.close()


def rendered(sheet: Sheet, accept: str = "") -> tuple[bytes, str]:
    """The sheet, and this process's own figures, in the format asked for. Returns it and its content type."""
    registry = CollectorRegistry()
    registry.register(_Written(sheet))
    ProcessCollector(registry=registry)
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


async def print_once(loaded: config.Config, queues: Sequence[str], write: Callable[[str], object]) -> None:
    """Read everything once, and write it as text."""
    async with opened(loaded, queues) as exporter:
        registry = CollectorRegistry()
        registry.register(_Written(await exporter.collect(patience=float("inf"))))
        write(generate_latest(registry).decode())


async def serve(loaded: Loaded, queues: Sequence[str], host: str, port: int) -> None:
    """Serve until told to stop (SIGINT, SIGTERM). SIGHUP: with the feeds as they then are.

    Raises `OSError` where the port is taken.
    """
    stopped, reloader = asyncio.Event(), Reloader(loaded, loaded.replace)
    reloader.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with opened(loaded, queues) as exporter:
        runner = web.AppRunner(application(exporter), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            log.info("metrics_served", host=host, port=port)
            await stopped.wait()
        finally:
            await runner.cleanup()


def application(exporter: Exporter) -> web.Application:
    """`/metrics`, and a page that leads there."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = rendered(await exporter.collect(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    application = web.Application()
    application.add_routes([web.get("/", index), web.get("/metrics", metrics)])
    return application
