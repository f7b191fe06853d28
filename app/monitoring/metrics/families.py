"""Every exported metric: name, kind, labels and meaning. `docs/monitoring.md` lists them.

Named by https://prometheus.io/docs/practices/naming/. Labels hold what the configuration or
Rowrelay itself names (feed, state, outcome, HTTP status, queue, task, job_name, process, server,
reading, reason), never a key, an id or a text of the partner's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)


class Kind(StrEnum):
    """Prometheus' kinds of metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    """As it is exported: a counter's ends in `_total`."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    def empty(self) -> Metric:
        """The metric without a sample."""
        makers: Mapping[
            Kind, type[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]
        ] = {
            Kind.GAUGE: GaugeMetricFamily,
            Kind.COUNTER: CounterMetricFamily,
            Kind.HISTOGRAM: HistogramMetricFamily,
        }
        return makers[self.kind](self.name, self.meaning, labels=self.labels)


FAMILIES: dict[str, Family] = {}
"""By name, in the order in which they are exported."""


def _family(name: str, kind: Kind, meaning: str, *labels: str) -> Family:
    family = FAMILIES[f"rowrelay_{name}"] = Family(f"rowrelay_{name}", kind, meaning, labels)
    return family


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return _family(name, Kind.GAUGE, meaning, *labels)


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return _family(f"{name}_total", Kind.COUNTER, meaning, *labels)


def _histogram(name: str, meaning: str, *labels: str) -> Family:
    return _family(name, Kind.HISTOGRAM, meaning, *labels)


BUILD = _gauge("build_info", "Always 1; the labels say what runs.", "version", "python", "celery")

# --- delivery
DELIVERIES = _gauge("deliveries", "Deliveries in the ledger by state.", "feed", "state")
ROWS_READ = _counter("rows_read", "Rows read from the source, including those read before.", "feed")
ROWS_LOGGED = _counter("rows_logged", "Rows logged for the first time.", "feed")
ATTEMPTS = _counter(
    "attempts", "HTTP requests made, by outcome and status; status is none where there was no answer.",
    "feed", "outcome", "status",
)  # fmt: skip
ATTEMPT_SECONDS = _histogram("attempt_duration_seconds", "Duration of requests.", "feed")
DELIVERED_SECONDS = _histogram(
    "delivered_latency_seconds", "Time from logging or replaying a row to its delivery.", "feed"
)

# --- backlog
BACKLOG = _gauge(
    "backlog", "Open deliveries, as max_backlog counts them: never an underestimate.", "feed"
)
BACKLOG_LIMIT = _gauge(
    "backlog_limit", "The feed's max_backlog, above which it is not polled.", "feed"
)
OLDEST_OPEN = _gauge(
    "oldest_open_seconds", "Age of the oldest open delivery; 0 where none is open.", "feed"
)
UNCONFIGURED = _gauge(
    "unconfigured_open",
    "Open deliveries of a feed missing from feeds.toml: no worker sends them.",
    "feed",
)
OVERDUE = _gauge(
    "overdue_batches",
    "Due batches of configured feeds: no worker had room, or a message or worker was lost.",
)
QUEUE_DEPTH = _gauge("queue_depth", "Messages waiting in a queue.", "queue")

# --- source
LAG = _gauge(
    "source_lag_rows", "Rows in the source beyond the cursor, counted up to 100000.", "feed"
)
GAPS = _gauge("gaps", "Ranges of missing identity values still being waited for.", "feed")
OLDEST_GAP = _gauge("oldest_gap_seconds", "Age of the oldest gap; 0 where there is none.", "feed")
GAP_TIMEOUT = _gauge(
    "gap_timeout_seconds", "The feed's gap_timeout, after which a gap is given up.", "feed"
)
LAST_POLL = _gauge("last_poll_timestamp_seconds", "When the feed was last polled.", "feed")
LAST_ROW = _gauge("last_row_timestamp_seconds", "When a poll last found a row.", "feed")
POLL_EVERY = _gauge("poll_interval_seconds", "The feed's poll_every.", "feed")
POLL_FAILURES = _gauge("poll_failures", "Polls in a row that found the source unavailable.", "feed")
HELD = _gauge(
    "rows_held_seconds", "How long rows have waited while none could be read; 0: none do.", "feed"
)
FEED_LAG = _gauge(
    "feed_lag_seconds",
    "The feed's cursor.lag, for which rows are meant to wait; 0 unless the strategy is timestamp.",
    "feed",
)
PAUSED = _gauge("feed_paused", "1 while the feed, its polling or its sending is paused.", "feed")

# --- partner
BREAKER = _gauge(
    "breaker_state", "1 for the current state of the endpoint's circuit breaker.", "feed", "state"
)
BREAKER_OPENED = _counter("breaker_opened", "Times the circuit breaker has opened.", "feed")
HOLD = _gauge(
    "endpoint_hold_seconds",
    "Seconds left until the partner accepts requests again (Retry-After).",
    "feed",
)
SENDERS = _gauge("endpoint_processes", "Worker processes that send to the endpoint.", "feed")

# --- periodic jobs
JOB_DONE = _gauge(
    "job_last_done_timestamp_seconds", "When the job last completed a period.", "job_name"
)
JOB_FAILED = _gauge(
    "job_last_failed_timestamp_seconds", "When the job last gave up on a period.", "job_name"
)
JOB_FAILING = _gauge("job_failing", "Failed attempts at the current period.", "job_name")
JOB_SECONDS = _gauge("job_last_duration_seconds", "Duration of the last completed run.", "job_name")
CERTIFIED = _gauge(
    "certificate_timestamp_seconds", "When source and ledger were last compared.", "feed"
)
CERTIFICATE = _gauge(
    "certificate_complete", "1 if the last certificate accounts for every source row.", "feed"
)
DISCREPANCY = _gauge(
    "certificate_discrepancy_rows", "Rows the last certificate does not vouch for.", "feed", "kind"
)
MISSING = _gauge(
    "certificate_missing_rows",
    "Source rows without a delivery at that time; they were then queued.",
    "feed",
)

# --- health
UP = _gauge("up", "1 if the server answered the last request.", "server")
LIVE = _gauge(
    "process_live",
    "1 while the worker or beat makes progress, as in python -m app health.",
    "role",
    "process",
)
READY = _gauge(
    "process_ready", "1 while it can also reach its servers and is not stopping.", "role", "process"
)
HEARTBEAT = _gauge(
    "process_last_heartbeat_timestamp_seconds",
    "When the process last wrote a heartbeat.",
    "role",
    "process",
)
STARTED = _gauge(
    "process_started_timestamp_seconds", "When the process started.", "role", "process"
)
SENT = _gauge("beat_last_sent_timestamp_seconds", "When beat last sent a message.", "process")
CLOCK = _gauge(
    "process_clock_difference_seconds", "How far its clock is ahead of the ledger server's; negative: behind.",
    "role", "process",
)  # fmt: skip
DROPPED = _counter(
    "messages_dropped",
    "Messages from Redis that were dropped, by reason; see the worker's log.",
    "process",
    "reason",
)
RUNNING = _gauge("worker_tasks_running", "Tasks running.", "process")
BATCHES_HELD = _gauge("worker_batches", "Batches a worker is sending.", "process", "feed")
ROWS_HELD = _gauge(
    "worker_rows", "Rows of these batches without a recorded result.", "process", "feed"
)
TAKEN = _counter("worker_messages_taken", "Messages taken from the queues.", "process")
TASK_SECONDS = _histogram("task_duration_seconds", "Duration of task runs.", "process", "task")
TASK_FAILURES = _counter("task_failures", "Task runs that ended with an error.", "process", "task")

TASK_FAILING = _gauge(
    "task_failing", "Consecutive failures of a task for a reason that retrying does not fix; absent: none.",
    "process", "task", "feed",
)  # fmt: skip

# --- the exporter itself
READING_AGE = _gauge(
    "reading_age_seconds", "Age of the exported values, by where they were read.", "reading"
)
READING_SECONDS = _gauge("reading_duration_seconds", "Duration of the last reading.", "reading")
READING_FAILED = _gauge(
    "reading_failed", "1 if the last reading failed; its metrics are then absent.", "reading"
)


@dataclass(slots=True)
class Sheet:
    """The samples of one scrape."""

    _metrics: dict[str, Metric] = field(default_factory=dict)

    def set(self, family: Family, value: float | None, *labels: str) -> None:
        """A gauge's or a counter's value, with its labels in the family's order. `None`: there is
        no sample.
        """
        if value is not None:
            metric = self._metric(family)
            metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), value)

    def histogram(
        self, family: Family, buckets: Sequence[tuple[float, int]], total: float, *labels: str
    ) -> None:
        """A histogram: (upper bound, how many are at or below it) in ascending order, the last for
        everything.
        """
        metric = self._metric(family)
        assert isinstance(metric, HistogramMetricFamily)  # noqa: S101 - of this kind by the family
        named = [
            ("+Inf" if bound == float("inf") else _bound(bound), count) for bound, count in buckets
        ]
        metric.add_metric(labels, named, total)

    def metrics(self) -> Iterator[Metric]:
        """The metrics that have a sample, in the order of `FAMILIES`."""
        for name in FAMILIES:
            if name in self._metrics:
                yield self._metrics[name]

    def _metric(self, family: Family) -> Metric:
        return self._metrics.setdefault(family.name, family.empty())


def _bound(seconds: float) -> str:
    return str(float(f"{seconds:.4g}"))
