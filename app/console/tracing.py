"""Traces of the console by OpenTelemetry, where an operator asks for them: a span a request, named after its
route, with the statements on the console's database within it. Neither what was searched for nor who asked
is told: attributes that hold an address are emptied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.monitoring import tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

log = structlog.get_logger()

NEEDED = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.instrumentation.fastapi",
    "opentelemetry.instrumentation.sqlalchemy",
)
UNTOLD = frozenset(
    {
        "http.url", "http.target", "http.user_agent", "net.peer.ip", "net.peer.port", "url.full", "url.path",
        "url.query", "user_agent.original", "client.address", "client.port",
    }
)  # fmt: skip
"""Attributes that hold what a person wrote, or who they are."""


@contextmanager
def traced(
    app: FastAPI, engine: AsyncEngine, processor: SpanProcessor | None = None
) -> Iterator[None]:
    """Trace the application until the end, where the environment asks for it. `processor`: takes the
    spans in any case, in place of an OTLP exporter."""
    if processor is None and not tracing.wanted(NEEDED):
        yield
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415 - an optional extra
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415

    provider = tracing.provider(processor, "rowrelay-console")
    FastAPIInstrumentor.instrument_app(
        app,
        server_request_hook=_keep_quiet,
        tracer_provider=provider,
        excluded_urls="/health/,/static/",
        exclude_spans=["receive", "send"],
    )
    statements: Any = SQLAlchemyInstrumentor()
    # It says that it knows SQLAlchemy up to 2.0; what it listens to is the same in 2.1, and a test holds that.
    statements.instrument(engine=engine.sync_engine, tracer_provider=provider, skip_dep_check=True)
    log.info("traces_on")
    try:
        yield
    finally:
        statements.uninstrument()
        FastAPIInstrumentor.uninstrument_app(app)
        provider.shutdown()


def _keep_quiet(span: Span, _scope: dict[str, Any]) -> None:
    told = getattr(span, "attributes", None) or {}
    for name in UNTOLD.intersection(told):
        span.set_attribute(name, "")
