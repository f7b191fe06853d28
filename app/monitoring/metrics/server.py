"""Serves the metrics over HTTP, and prints them once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from app.configuration.loaded import Loaded
from app.configuration.reload import Reloader
from app.monitoring.metrics.collect import Exporter
from app.monitoring.metrics.families import Sheet

log = structlog.get_logger()

PAGE = '<!doctype html><title>Rowrelay metrics</title><p><a href="/metrics">/metrics</a></p>\n'


class _Written(Collector):
    """A sheet, as the client library takes it."""

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def collect(self) -> Iterator[Metric]:
        return self._sheet.metrics()


def rendered(sheet: Sheet, accept: str = "") -> tuple[bytes, str]:
    """The sheet, and this process's own figures, in the format asked for. Returns it and its
    content type.
    """
    registry = CollectorRegistry()
    registry.register(_Written(sheet))
    ProcessCollector(registry=registry)
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


async def print_once(exporter: Exporter, write: Callable[[str], object]) -> None:
    """Read everything once, and write it as text."""
    registry = CollectorRegistry()
    registry.register(_Written(await exporter.collect(patience=float("inf"))))
    write(generate_latest(registry).decode())


async def serve(exporter: Exporter, loaded: Loaded, host: str, port: int) -> None:
    """Serve until told to stop (SIGINT, SIGTERM). SIGHUP: with the feeds as they then are.

    Raises `OSError` where the port is taken.
    """
    stopped, reloader = asyncio.Event(), Reloader(loaded, loaded.replace)
    reloader.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
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
