"""The console's own metrics: what is asked of it, how long that takes, and what it holds. They are served
on a port of their own, which no browser needs, and tell nothing of who asks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from sqlalchemy.pool import QueuePool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.errors import ConsoleError
from app.console.sessions.repository import SessionRepository
from app.console.store.store import Store
from app.core.clock import Clock, utc_now
from app.core.errors import ConfigError, Problem

log = structlog.get_logger()

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
API = "/api/v1"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""The route of what no route takes, and a method that is none of HTTP's: a stranger adds no series."""
LOGINS = frozenset({("POST", "/login"), ("POST", "/api/v1/tokens")})


class Metrics:
    """Counts for one console."""

    def __init__(self, store: Store, now: Clock = utc_now) -> None:
        self._store = store
        self._now = now
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "rowrelay_console_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "rowrelay_console_request_seconds",
            "From a request to the end of its answer; streams are left out.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.logins_failed = Counter(
            "rowrelay_console_logins_failed", "Logins that were refused.", registry=registry
        )
        self.streams = Gauge(
            "rowrelay_console_streams",
            "Browsers that read server-sent events now.",
            registry=registry,
        )
        self.sessions = Gauge(
            "rowrelay_console_sessions",
            "Browsers that are logged in; NaN while the console's database does not answer.",
            registry=registry,
        )
        pool = store.engine.sync_engine.pool
        in_use = Gauge(
            "rowrelay_console_pool_in_use",
            "Connections to the console's database in use.",
            registry=registry,
        )
        in_use.set_function(lambda: pool.checkedout() if isinstance(pool, QueuePool) else 0)
        ProcessCollector(registry=registry)

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count an answer. `seconds`: `None` for a stream, whose length says nothing."""
        method = method if method in METHODS else OTHER
        self.requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self.seconds.labels(route).observe(seconds)
        if (method, route) in LOGINS and status in {401, 429}:
            self.logins_failed.inc()

    async def count_sessions(self) -> None:
        """Read how many are logged in. Never raises."""
        try:
            async with self._store.reading() as session:
                self.sessions.set(await SessionRepository(session).count_open(self._now()))
        except ConsoleError:
            self.sessions.set(float("nan"))

    def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """All of it in the format asked for, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type


class Measured:
    """ASGI middleware: the outermost, so that refusals are counted, too."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and count what comes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, streams = time.perf_counter(), 500, False

        async def sending(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = Headers(raw=message["headers"]).get("content-type", "")
                if kind.startswith("text/event-stream"):
                    streams = True
                    self._metrics.streams.inc()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if streams:
                self._metrics.streams.dec()
            seconds = None if streams else time.perf_counter() - begun
            self._metrics.answered(scope["method"], route_of(scope), status, seconds)


def route_of(scope: Scope) -> str:
    """The template of the route that took a request: never what a client wrote."""
    if scope["path"].startswith("/static/"):
        return "/static"
    path = getattr(scope.get("route"), "path", None)
    if not isinstance(path, str) or not path:
        return OTHER
    # The API's routes know their path within it alone.
    within = scope["path"].startswith(f"{API}/") and not path.startswith(f"{API}/")
    return API + path if within else path


@asynccontextmanager
async def metrics_served(metrics: Metrics, host: str, port: int) -> AsyncIterator[None]:
    """Serve `/metrics` there until the end; nowhere with port 0. Raises `ConfigError`."""
    if port == 0:
        yield
        return
    runner = web.AppRunner(_application(metrics), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            problem = Problem(
                "environment",
                "CONSOLE_METRICS_HOST, CONSOLE_METRICS_PORT",
                f"{host}:{port}, where nothing can listen: {error.strerror}",
                "an address of this machine and a free port; 0 for no metrics",
            )
            raise ConfigError([problem]) from error
        log.info("console_metrics_served", host=host, port=port)
        yield
    finally:
        await runner.cleanup()


def _application(metrics: Metrics) -> web.Application:
    async def shown(request: web.Request) -> web.Response:
        await metrics.count_sessions()
        body, content_type = metrics.rendered(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    application = web.Application()
    application.add_routes([web.get("/metrics", shown)])
    return application
