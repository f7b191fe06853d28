"""Runs the console under uvicorn."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import FrameType

import uvicorn

from app.configuration.loaded import Loaded
from app.configuration.reload import Reloader
from app.console.app import make_app
from app.console.background import background
from app.console.metrics import metrics_served
from app.console.services import open_services
from app.console.tracing import traced
from app.core.errors import ConfigError, Problem
from app.runtime.operator import OpenQueue
from app.runtime.process import freeze_loaded

GRACE_SECONDS = 5
"""How long requests may take to end once the console is told to stop; streams are cut."""


def serve(loaded: Loaded, open_queue: OpenQueue, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `tell`: told the address once it listens.

    Raises `ConfigError` for an address that cannot be listened on and for settings that cannot be
    used, and `StoreUnavailable`.
    """
    settings = loaded.settings
    with _listen(settings.console_host, settings.console_port) as listening:
        url = settings.console_url
        if settings.console_port == 0:  # a port that nobody could have written into CONSOLE_URL
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        reloader = Reloader(loaded, loaded.replace, always=True)
        reloader.start()
        try:
            asyncio.run(_serve(loaded, open_queue, url, listening, tell, reloader.ask))
        finally:
            reloader.stop()


async def _serve(
    loaded: Loaded,
    open_queue: OpenQueue,
    url: str,
    listening: socket.socket,
    tell: Callable[[str], None],
    hung_up: Callable[[], None],
) -> None:
    settings = loaded.settings
    async with (
        open_services(loaded, open_queue, url) as services,
        background(services),
        metrics_served(
            services.metrics, settings.console_metrics_host, settings.console_metrics_port
        ),
        AsyncExitStack() as closing,
    ):
        app = make_app(services)
        closing.enter_context(traced(app, services.store.engine))
        freeze_loaded()  # a collection of all of it took 170 ms, in which nobody was answered
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                forwarded_allow_ips=loaded.settings.console_proxies,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            ),
            lambda: tell(url),
            hung_up,
            services.feeds.live.end,
        )
        await server.serve([listening])


class _Server(uvicorn.Server):
    """Says when it listens; a signal ends it, and is not raised again afterwards."""

    def __init__(
        self,
        config: uvicorn.Config,
        listens: Callable[[], None],
        hung_up: Callable[[], None],
        stops: Callable[[], None],
    ) -> None:
        """`hung_up`: called on SIGHUP; `stops`: when it is told to end, before it waits for requests
        under way."""
        super().__init__(config)
        self._listens = listens
        self._hung_up = hung_up
        self._stops = stops

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn calls it."""
        await super().startup(sockets)
        self._listens()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn calls it."""
        super().handle_exit(sig, frame)
        self._stops()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn calls it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    """Raises `ConfigError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        said = f"{host}:{port}, where nothing can listen: {error.strerror}"
        problem = Problem(
            "environment",
            "CONSOLE_HOST, CONSOLE_PORT",
            said,
            "an address of this machine and a free port",
        )
        raise ConfigError([problem]) from error
    made.listen(128)
    return made
