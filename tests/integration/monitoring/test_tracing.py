"""One trace from a poll to the deliveries of what it read, over Celery, at a collector; none where
none is named.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.monitoring import tracing
from app.testbed.embedded.stack import ROOT, Stack
from tests.support.wait import wait_until

ROWS = 30
SECRET = "pl4nted"  # noqa: S105 - not one

without_extra = pytest.mark.skipif(
    not all(tracing._found(name) for name in tracing._NEEDED),
    reason="requirements-otel.txt is not installed",
)


@dataclass(frozen=True)
class Seen:
    """One span, as the collector got it."""

    trace: bytes
    id: bytes
    parent: bytes
    name: str
    attributes: Mapping[str, Any]
    status: str
    service: str


@contextmanager
def _collector() -> Iterator[tuple[str, list[bytes]]]:
    """A place that takes spans as a collector does (OTLP over HTTP). Gives its URL, and the bodies
    that came.
    """
    bodies: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(
                gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


def _spans(bodies: list[bytes]) -> list[Seen]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return [
        Seen(
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.name,
            {
                field.key: getattr(field.value, field.value.WhichOneof("value"))
                for field in span.attributes
            },
            span.status.message,
            next(
                field.value.string_value
                for field in group.resource.attributes
                if field.key == "service.name"
            ),
        )
        for body in list(bodies)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _path(span: Seen, by_id: Mapping[bytes, Seen]) -> list[str]:
    """The names from the root of the trace to the span."""
    above = by_id.get(span.parent)
    return [*(_path(above, by_id) if above else []), span.name]


@without_extra
def test_one_trace_goes_from_the_poll_to_each_delivery_over_celery(
    tmp_path: Path, bare_database_url: str
) -> None:
    with _collector() as (url, bodies):
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "TOKEN": SECRET,
            "LEASE": "60s",
            "MONGO_URL": bare_database_url,
        }
        options = 'auth = { type = "bearer", token = "${TOKEN}" }'
        with Stack(
            tmp_path,
            gap_timeout="5s",
            partner_timeout="30s",
            partner_options=options,
            settings=settings,
        ) as stack:
            stack.start_beat()
            workers = [stack.start_worker("-Q", queues) for queues in ("poll", "deliver")]
            stack.start_generator(ROWS).wait(timeout=30)
            wait_until(
                lambda: sum(span.name == "attempt" for span in _spans(bodies)) == ROWS,
                timeout=60,
                message="the spans of every attempt",
            )
            assert [worker.stop(timeout=20) for worker in workers] == [0, 0]
        spans = _spans(bodies)
        text = b"".join(bodies)
    by_id = {span.id: span for span in spans}
    attempts = [span for span in spans if span.name == "attempt"]
    way = ["run/poll", "poll", "apply_async/deliver", "run/deliver", "deliver", "attempt"]
    ways = [_path(span, by_id) for span in attempts]
    assert all(taken[-len(way) :] == way for taken in ways)
    assert {name for taken in ways for name in taken[: -len(way)]} <= {
        "run/poll",
        "apply_async/poll",
    }, "looks alone"
    assert {span.attributes["rowrelay.delivery"] for span in attempts} == {
        f"orders:{n + 1}" for n in range(ROWS)
    }
    assert {span.attributes["rowrelay.status"] for span in attempts} == {200}
    traces = {span.trace for span in attempts}
    polls = [span for span in spans if span.name == "poll" and span.trace in traces]
    assert sum(int(span.attributes["rowrelay.read"]) for span in polls) == ROWS
    names = {span.name for span in spans if span.trace in traces}
    assert names >= {"read page", "log page", "move cursor", "claim", "record results"}
    assert {span.service for span in spans} == {"rowrelay"}
    for unwanted in (SECRET, "Ada Byron", stack.partner_url, stack.redis.url, stack.mongo_url):
        assert unwanted.encode() not in text


@without_extra
def test_a_collector_that_is_away_costs_no_row_and_no_shutdown(
    tmp_path: Path, bare_database_url: str
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "MONGO_URL": bare_database_url,
    }
    with Stack(tmp_path, gap_timeout="5s", settings=settings) as stack, stack.partner() as partner:
        stack.start_beat()
        worker = stack.start_worker()
        stack.start_generator(ROWS).wait(timeout=30)
        wait_until(
            lambda: partner.get("/_simulator/counts").json()["accepted"] == ROWS,
            timeout=60,
            message="every row",
        )
        assert worker.stop(timeout=20) == 0


IMPORTED = """
import sys
import tasks.poll, tasks.deliver
from app.monitoring import tracing
ours = ("opentelemetry.exporter", "opentelemetry.instrumentation", "opentelemetry.sdk.trace")
print(tracing.wanted(), [name for name in ours if name in sys.modules])
"""
"""Redis's client imports OpenTelemetry's metrics by itself, where they are installed."""

MISSING = "import sys; sys.modules['opentelemetry'] = None"
"""As where the extra is not installed."""


@pytest.mark.parametrize("before", ["", MISSING])
def test_without_a_place_for_traces_nothing_of_opentelemetry_is_imported(
    tmp_path: Path, before: str
) -> None:
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(
        '[feeds.orders]\ntable = "orders"\nkey = "id"\ncursor = { strategy = "identity", column = "id" }\n'
        '[feeds.orders.partner]\nurl = "http://127.0.0.1:9/"\n',
        encoding="utf-8",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    said = subprocess.run(
        [sys.executable, "-c", before + IMPORTED],
        env={**kept, "FEEDS_FILE": str(feeds), "SOURCE_URL": "sqlite:///x.db"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False []\n"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        (
            {
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            },
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"},
            False,
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, True, marks=without_extra),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True, marks=without_extra
        ),
    ],
)
def test_traces_are_on_where_the_environment_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.wanted() is asked


@without_extra
async def test_a_failed_step_is_told_by_its_class_alone() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    class Source:
        async def read(self, feed: str) -> None:
            raise ValueError(f"{SECRET} of {feed}")

    def about(feed: str) -> tracing.Told:
        return {"feed": feed, "rows": None}

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    step = tracing.Step(Source, Source.read, "read", about)
    with pytest.raises(ValueError, match=SECRET):
        await tracing._traced(provider.get_tracer("test"), step)(Source(), "orders")
    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("read", {"rowrelay.feed": "orders"})
    assert (span.status.description, span.events) == ("ValueError", ())


@without_extra
async def test_a_fault_in_telling_of_a_step_does_not_stop_it() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    class Source:
        async def read(self, feed: str) -> str:
            return feed.upper()

    def wrong(feed: str) -> tracing.Told:
        return {"length": 1 // (len(feed) - len("orders"))}

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    traced = tracing._traced(tracer, tracing.Step(Source, Source.read, "read", wrong))
    assert await traced(Source(), "orders") == "ORDERS"
