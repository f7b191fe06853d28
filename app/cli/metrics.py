"""`metrics`: serves Prometheus metrics of the whole installation."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.servers import run
from app.cli.terminal import fail
from app.configuration.loaded import Loaded
from app.core.logs import configure_logging, log_what_nobody_caught
from app.monitoring.metrics.server import print_once, serve
from app.runtime.reader import open_reader


def metrics(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9108,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics once, and end.")] = False,
) -> None:
    """Serve Prometheus metrics at /metrics, read from the ledger, Redis and the source. One process
    an installation.
    """
    loaded = load_config()
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_what_nobody_caught()
    run(_export(Loaded(loaded), host, port, once=once))


async def _export(loaded: Loaded, host: str, port: int, *, once: bool) -> None:
    async with open_reader(loaded) as reader:
        if once:
            return await print_once(reader.exporter, sys.stdout.write)
        try:
            await serve(reader.exporter, loaded, host, port)
        except OSError as error:
            fail(f"metrics: {host}:{port}: {error.strerror or error}")
