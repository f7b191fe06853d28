"""Traces of the console: by route, with its statements, and without what was searched for."""

from __future__ import annotations

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.console.security.roles import Role
from app.console.tracing import traced
from tests.support.console import Consoled


async def test_a_request_is_a_span_and_tells_nothing_of_what_was_asked(console: Consoled) -> None:
    exporter = InMemorySpanExporter()
    with traced(console.app, console.services.store.engine, SimpleSpanProcessor(exporter)):
        viewer = await console.logged_in(Role.VIEWER)
        asked = "/api/v1/deliveries?q=a-customers-key"
        assert (await viewer.get(asked)).status_code == 200
        assert (await viewer.get("/health/live")).status_code == 200
    spans = exporter.get_finished_spans()
    request = next(span for span in spans if span.name == "GET /api/v1/deliveries")
    within = [
        span for span in spans if span.parent and span.parent.span_id == request.context.span_id
    ]
    assert any(span.name.startswith("SELECT") for span in within), [
        (span.name, span.parent) for span in spans
    ]
    assert not any("/health" in span.name for span in spans)
    told = " ".join(str(value) for span in spans for value in (span.attributes or {}).values())
    assert "a-customers-key" not in told


async def test_nobody_asked_and_nothing_is_traced(console: Consoled) -> None:
    before = console.app.build_middleware_stack
    with traced(console.app, console.services.store.engine):
        assert console.app.build_middleware_stack == before
