"""Traces by OpenTelemetry, where an operator asked for them: one from a poll to the deliveries of what it read.

Celery's instrumentation carries the trace from task to task, in the headers of messages. The steps within a task are
wrapped from outside, by the table `STEPS`: without traces nothing is imported, and nothing is called in between.
A span holds names, ids and figures; no payload, no URL, and of an error only its class.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from app.delivery.deliver import Delivering
from app.intake.intake import Intake
from app.intake.poll import Polling
from app.ledger.attempts import Attempts
from app.ledger.batches import Batches
from app.ledger.cursors import Cursors
from app.partner.client import PartnerClient
from app.source.reader import Source

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Tracer

log = structlog.get_logger()

Told: TypeAlias = Mapping[str, str | int | bool | None]
"""Attributes of a span; `None`: nothing to tell."""

_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.instrumentation.celery")
_NAME = "service.name"


@dataclass(frozen=True, slots=True)
class Step:
    """An asynchronous method that is a span of its own."""

    owner: type
    method: str
    name: str
    before: Callable[..., Told]
    """What to tell of the call; takes its arguments, `self` left out."""
    after: Callable[[Any], Told] = lambda _: {}
    """What to tell of what it returned."""


STEPS = (
    Step(
        Polling, "poll", "poll",
        lambda feed, *_: {"feed": feed.name},
        lambda polled: {"read": polled.read, "logged": polled.logged, "stopped": polled.stopped},
    ),
    Step(Source, "read_page", "read page", lambda feed, *_: {"feed": feed.name}, lambda page: {"rows": len(page.rows)}),
    Step(Intake, "log", "log page", lambda feed, rows, *_: {"feed": feed.name, "rows": len(rows)}),
    Step(Cursors, "advance", "move cursor", lambda cursor, *_: {"feed": cursor.feed}),
    Step(Delivering, "deliver", "deliver", lambda feed, batch_id, *_: {"feed": feed.name, "batch": batch_id}),
    Step(
        Batches, "claim", "claim",
        lambda batch_id, *_: {"batch": batch_id},
        lambda batch: {"claimed": batch is not None},
    ),
    Step(
        Batches, "claim_next", "claim",
        lambda feed, *_: {"feed": feed},
        lambda batch: {"claimed": batch is not None, "batch": batch.id if batch else None},
    ),
    Step(
        PartnerClient, "send", "attempt",
        lambda feed, delivery, *_: {"feed": feed.name, "delivery": delivery.id, "attempt": delivery.attempts + 1},
        lambda answer: {"status": answer.status, "failed": answer.error is not None},
    ),
    Step(Attempts, "record", "record results", lambda batch, results, *_: {"batch": batch.id, "results": len(results)}),
)  # fmt: skip

_started: TracerProvider | None = None


def wanted() -> bool:
    """Whether the environment asks for traces and the packages are there. Says so where they are not.

    The variables are OpenTelemetry's own, which its SDK reads: they are no settings of ours.
    """
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    named = any(os.environ.get(name) for name in endpoints)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if named else "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    missing = [name for name in _NEEDED if not _found(name)]
    if exporter != "otlp" or missing:
        log.warning("traces_off", exporter=exporter, missing=missing, install="pip install -r requirements-otel.txt")
        return False
    return True


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def start(processor: SpanProcessor | None = None) -> None:
    """Trace this process from now on. `processor`: takes the spans in place of an OTLP exporter over HTTP."""
    global _started  # noqa: PLW0603 - a process traces or does not
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an optional extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    named = "OTEL_SERVICE_NAME" in os.environ or f"{_NAME}=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {_NAME: "rowrelay"})
    _started = TracerProvider(resource=resource, shutdown_on_exit=False)
    _started.add_span_processor(processor or _exporting())
    tracer = _started.get_tracer("rowrelay")
    traced = [(step, _traced(tracer, step)) for step in STEPS]
    _instrumentor().instrument(tracer_provider=_started)
    for step, method in traced:
        setattr(step.owner, step.method, method)
    log.info("traces_on", steps=len(STEPS))


def _exporting() -> SpanProcessor:
    """Sends spans in groups from a thread of its own; what does not fit its queue is dropped."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter())


def _instrumentor() -> Any:
    from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: PLC0415

    return CeleryInstrumentor()  # type: ignore[no-untyped-call] # it has no types


def stop() -> None:
    """Send what is left, and trace no more."""
    global _started
    if _started is None:
        return
    provider, _started = _started, None
    _instrumentor().uninstrument()
    for step in STEPS:
        setattr(step.owner, step.method, getattr(step.owner, step.method).__wrapped__)
    provider.shutdown()


def _traced(tracer: Tracer, step: Step) -> Callable[..., Awaitable[Any]]:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    method = getattr(step.owner, step.method)

    @functools.wraps(method)
    async def within(self: object, *args: Any, **kwargs: Any) -> Any:
        # The SDK would record an exception with its text.
        with tracer.start_as_current_span(step.name, record_exception=False, set_status_on_exception=False) as span:
            span.set_attributes(_attributes(step.before(*args, **kwargs)))
            try:
                returned = await method(self, *args, **kwargs)
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            span.set_attributes(_attributes(step.after(returned)))
            return returned

    return within


def _attributes(told: Told) -> dict[str, str | int | bool]:
    return {f"rowrelay.{name}": value for name, value in told.items() if value is not None}
