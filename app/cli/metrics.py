"""`metrics`: serves Prometheus metrics of the whole installation."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.broker.depths import QUEUES
from app.cli.output import fail, load_config, run
from app.configuration.loaded import Loaded
from app.core.logs import configure_logging, log_what_nobody_caught
from app.monitoring.metrics.server import print_once, serve


def metrics(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9108,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics once, and end.")] = False,
) -> None:
    """Serve Prometheus metrics at /metrics, read from the ledger, Redis and the source. One process an installation."""
    loaded = load_config()
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_what_nobody_caught()
    if once:
        run(print_once(loaded, QUEUES, sys.stdout.write))
        return
    try:
        run(serve(Loaded(loaded), QUEUES, host, port))
    except OSError as error:
        fail(f"metrics: {host}:{port}: {error.strerror or error}")
