"""Traces by OpenTelemetry, where an operator asks for them: one trace from a poll to the deliveries
of what it read.

Celery's instrumentation carries the trace from task to task, in the headers of messages. The steps
within a task are wrapped from outside, by the table `STEPS`: without traces nothing is imported and
nothing is called in between. A span holds names, ids and figures; no payload, no URL, and of an
error only its class.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

import structlog

from app.core.attempts import Answer, Result
from app.core.batches import Batch
from app.core.cursors import Cursor
from app.core.deliveries import Delivery
from app.core.rows import Page, SourceRow
from app.delivery.deliver import Delivering
from app.feeds.feed import Feed
from app.intake.follow_ups import Polled
from app.intake.intake import Intake
from app.intake.poll import Polling
from app.ledger.attempts import Attempts
from app.ledger.batches import Batches
from app.ledger.cursors import Cursors
from app.partner.client import PartnerClient
from app.source.reader import Source

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger()

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

Told: TypeAlias = Mapping[str, str | int | bool | None]
"""Attributes of a span; `None`: nothing to tell."""

_NEEDED = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.instrumentation.celery",
)
_NAME = "service.name"


@dataclass(frozen=True, slots=True)
class Step(Generic[S, P, T]):
    """An asynchronous method that becomes a span of its own."""

    owner: type[S]
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]
    name: str
    before: Callable[P, Told]
    """What to tell of the call: takes the method's arguments. The types hold it to the method's
    signature.
    """
    after: Callable[[T], Told] = lambda _: {}
    """What to tell of what the method returned."""


def _of_feed(feed: Feed, *_: object, **__: object) -> Told:
    return {"feed": feed.name}


def _of_rows(feed: Feed, rows: Sequence[SourceRow], **_: object) -> Told:
    return {"feed": feed.name, "rows": len(rows)}


def _of_cursor(cursor: Cursor, *_: object, **__: object) -> Told:
    return {"feed": cursor.feed}


def _of_batch(feed: Feed, batch_id: str | None, *_: object, **__: object) -> Told:
    return {"feed": feed.name, "batch": batch_id}


def _of_claim(batch_id: str, feed: str, *_: object, **__: object) -> Told:
    return {"feed": feed, "batch": batch_id}


def _of_next_claim(feed: str, *_: object, **__: object) -> Told:
    return {"feed": feed}


def _of_delivery(feed: Feed, delivery: Delivery, **_: object) -> Told:
    return {"feed": feed.name, "delivery": delivery.id, "attempt": delivery.attempts + 1}


def _of_results(batch: Batch, results: Sequence[Result], **_: object) -> Told:
    return {"batch": batch.id, "results": len(results)}


def _polled(polled: Polled) -> Told:
    return {"read": polled.read, "logged": polled.logged, "stopped": polled.stopped}


def _page(page: Page) -> Told:
    return {"rows": len(page.rows)}


def _claimed(batch: Batch | None) -> Told:
    return {"claimed": batch is not None, "batch": batch.id if batch else None}


def _answer(answer: Answer) -> Told:
    return {"status": answer.status, "failed": answer.error is not None}


STEPS: tuple[Step[Any, Any, Any], ...] = (
    Step(Polling, Polling.poll, "poll", _of_feed, _polled),
    Step(Source, Source.read_page, "read page", _of_feed, _page),
    Step(Intake, Intake.log, "log page", _of_rows),
    Step(Cursors, Cursors.advance, "move cursor", _of_cursor),
    Step(Delivering, Delivering.deliver, "deliver", _of_batch),
    Step(Batches, Batches.claim, "claim", _of_claim, _claimed),
    Step(Batches, Batches.claim_next, "claim", _of_next_claim, _claimed),
    Step(PartnerClient, PartnerClient.send, "attempt", _of_delivery, _answer),
    Step(Attempts, Attempts.record, "record results", _of_results),
)

_started: TracerProvider | None = None


def wanted(needed: Sequence[str] = _NEEDED) -> bool:
    """Whether the environment asks for traces and the packages `needed` are there. Says so where
    they are not.

    The variables are OpenTelemetry's own, which its SDK reads: they are no settings of ours.
    """
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    named = any(os.environ.get(name) for name in endpoints)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if named else "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    missing = [name for name in needed if not _found(name)]
    if exporter != "otlp" or missing:
        log.warning(
            "traces_off",
            exporter=exporter,
            missing=missing,
            install="pip install -r requirements-otel.txt",
        )
        return False
    return True


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def start(processor: SpanProcessor | None = None) -> None:
    """Trace this process from now on. `processor`: takes the spans in place of an OTLP exporter
    over HTTP.
    """
    global _started  # noqa: PLW0603 - a process traces or does not
    _started = provider(processor)
    tracer = _started.get_tracer("rowrelay")
    traced: list[tuple[Step[Any, Any, Any], Callable[..., Any]]] = [
        (step, _traced(tracer, step)) for step in STEPS
    ]
    _instrumentor().instrument(tracer_provider=_started)
    for step, method in traced:
        setattr(step.owner, step.method.__name__, method)
    log.info("traces_on", steps=len(STEPS))


def provider(processor: SpanProcessor | None = None, name: str = "rowrelay") -> TracerProvider:
    """What spans are begun with; shut it down at the end. `name`: the service's, where the
    environment names none.
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an optional extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    named = "OTEL_SERVICE_NAME" in os.environ or f"{_NAME}=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {_NAME: name})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(processor or _exporting())
    return made


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
    started, _started = _started, None
    _instrumentor().uninstrument()
    for step in STEPS:
        setattr(step.owner, step.method.__name__, step.method)
    started.shutdown()


def _traced(
    tracer: Tracer, step: Step[S, P, T]
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    @functools.wraps(step.method)
    async def within(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # The SDK would record an exception with its text.
        with tracer.start_as_current_span(
            step.name, record_exception=False, set_status_on_exception=False
        ) as span:
            _describe(span, step.before, *args, **kwargs)
            try:
                returned = await step.method(self, *args, **kwargs)
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            _describe(span, step.after, returned)
            return returned

    return within


def _describe(span: Span, tell: Callable[P, Told], *args: P.args, **kwargs: P.kwargs) -> None:
    """Set the attributes. A fault in telling of the work never stops the work."""
    try:
        told = tell(*args, **kwargs)
        span.set_attributes(
            {f"rowrelay.{name}": value for name, value in told.items() if value is not None}
        )
    except Exception as error:  # noqa: BLE001 - the traced method is not to blame
        log.debug("span_not_described", kind=type(error).__name__)
