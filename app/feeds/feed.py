"""A feed as an operator writes it in `feeds.toml`: typed, bounded, with defaults that are safe in
production.

All wrong fields are reported together, each with what was found and what is allowed (see
`config.load`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from app.core.url import HttpUrl
from app.feeds.auth import Auth, NoAuth
from app.feeds.cursors import SPECS, Cursor, spec_of
from app.feeds.duration import Duration
from app.feeds.partner import Signing, Success, Tls, checked_status_url
from app.feeds.schema import Frozen

_RATE = re.compile(r"(\d+)\s*/\s*(second|minute|hour|day)")
NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
"""What a feed may be called, as a regular expression."""
_RATE_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


Value: TypeAlias = bool | int | float | datetime | date | time | str


class Condition(Frozen):
    """One condition on a column. The column is checked against the catalogue, and the value is a
    bound parameter.
    """

    column: str = Field(min_length=1)
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "not in", "like", "is null", "is not null"]
    value: Value | tuple[Value, ...] | None = None

    @model_validator(mode="after")
    def _value_suits_op(self) -> Condition:
        several = isinstance(self.value, tuple)
        if self.op.startswith("is ") and self.value is not None:
            raise ValueError(f"op {self.op!r} takes no value")
        if self.op in ("in", "not in") and (not several or not 1 <= len(self.values) <= 100):
            raise ValueError(f"op {self.op!r} needs a list of 1 to 100 values")
        if (
            not self.op.startswith("is ")
            and self.op not in ("in", "not in")
            and (several or self.value is None)
        ):
            raise ValueError(f"op {self.op!r} needs one value")
        if self.op == "like" and not isinstance(self.value, str):
            raise ValueError("op 'like' needs a text")
        return self

    @property
    def values(self) -> tuple[Value, ...]:
        """All values: none, one or several."""
        return (
            ()
            if self.value is None
            else self.value
            if isinstance(self.value, tuple)
            else (self.value,)
        )


class Rate(Frozen):
    """At most `count` requests in any `per_seconds`."""

    count: int = Field(gt=0)
    per_seconds: int = Field(gt=0)


def parse_rate(value: object) -> object:
    """Parse `"200/second"` into a `Rate`. Raises `ValueError` for text of another form."""
    if not isinstance(value, str):
        return value
    match = _RATE.fullmatch(value.strip())
    if not match:
        raise ValueError('a rate such as "200/second", "600/minute" or "10000/hour"')
    return Rate(count=int(match[1]), per_seconds=_RATE_SECONDS[match[2]])


class Breaker(Frozen):
    """When all workers stop sending to an endpoint that keeps failing. Costs no delivery an
    attempt."""

    enabled: bool = True
    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    """Opens when this share of the window's requests got no answer, a 408, a 5xx, or a 2xx that is
    to be retried. Any other answer shows that the endpoint is up."""
    window: Duration = timedelta(seconds=30)
    min_requests: int = Field(default=20, ge=1)
    """With fewer requests in the window, failures in a row count instead of the ratio."""
    consecutive_failures: int = Field(default=10, ge=0, le=100_000)
    """Opens after this many such answers in a row, over whatever time, while `min_requests` is not
    reached. 0: never.
    """
    open_for: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(seconds=10)
    """How long nothing is sent before probes are. Doubles each time the probes fail."""
    open_for_cap: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(minutes=2)
    """The longest `open_for` may grow. Never above `backoff_cap`, nor below `open_for`."""
    probes: int = Field(default=3, ge=1, le=1000)
    """Requests let through while half open, by all workers together. The breaker closes when all
    succeed, or when nobody has asked for another for `open_for`; it reopens when one fails."""


class Partner(Frozen):
    """The endpoint that every row of the feed is sent to, and at what pace."""

    url: HttpUrl
    """May hold a user name and password, so no repr shows it."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    auth: Auth = NoAuth()
    tls: Tls | None = None
    signing: Signing | None = None
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """A value `$column` is taken from each row; `$$` is a literal `$`."""
    concurrency: int = Field(default=100, ge=1, le=10_000)
    """Requests in flight over all workers; each worker takes its share, at least 1."""
    rate_limit: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    """Over all workers. `None`: no limit."""
    breaker: Breaker = Breaker()
    timeout: Duration = timedelta(seconds=10)
    """The deadline of one attempt, from before connecting to the last byte of the answer."""
    connect_timeout: Duration = timedelta(seconds=5)
    stop_after: int = Field(default=10, ge=0, le=100_000)
    """Refusals in a row, with nothing accepted in between, that pause the feed. 0: never."""
    success: Success | None = None
    status_url: Annotated[str, AfterValidator(checked_status_url)] | None = Field(
        default=None, repr=False
    )
    """Asked before a retry whose previous attempt may have reached the partner."""


class Retry(Frozen):
    """When a failed delivery is tried again, and when it is given up."""

    max_age: Duration = timedelta(days=3)
    """Since the row was logged; an attempt that fails later makes the delivery a dead letter."""
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    """Gives up sooner. `None`: only `max_age` does."""
    backoff: Duration = timedelta(seconds=1)
    """About how long the first retry waits; doubles with each attempt (see `policy.backoff`)."""
    backoff_cap: Duration = timedelta(hours=1)


class Retention(Frozen):
    """How long the ledger keeps settled deliveries: delivered, cancelled, skipped, or dead and
    acknowledged.
    """

    payload_days: int = Field(default=7, ge=0, le=36_500)
    """The payload is dropped this long after the delivery was settled; the record stays until
    `days`.
    """
    days: int = Field(default=90, ge=1, le=36_500)
    """The record and its attempts are deleted this long after that, by whole days (UTC)."""
    stats_days: int = Field(default=90, ge=9, le=36_500)
    """Statistics by the minute. Reports are compiled from them, up to 8 days late after an outage;
    the reports themselves are kept for `report_days`."""
    report_days: int = Field(default=730, ge=1, le=36_500)
    """Reports and certificates; the last certificate stays."""
    archive: bool = True
    """Where `ARCHIVE_DIR` is set: write records there before they are deleted."""


class Feed(Frozen):
    """One source table (or view) whose new rows go to one partner endpoint."""

    name: str
    table: str = Field(min_length=1)
    """`table` or `schema.table`."""
    key: tuple[str, ...] = Field(min_length=1)
    """The columns that together identify a row."""
    cursor: Annotated[Cursor, BeforeValidator(spec_of)]
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns sent. `None`: all of the table's."""
    on_new_column: Literal["include", "ignore", "pause"] = "include"
    """Without `columns`: what happens when the table gets another column. `include`: it is sent
    from then on, by all workers alike; `ignore`: it is not; `pause`: polling waits for an operator,
    and what is logged is still sent."""
    where: tuple[Condition, ...] = Field(default=(), max_length=20)
    """All must hold for a row to be read; the cursor moves past the others."""
    capture: Literal["inserts", "changes"] = "inserts"
    """`inserts`: each row is delivered once. `changes`: so is each update of it."""
    poll_every: Duration = timedelta(seconds=5)
    poll_soonest: Duration = timedelta(milliseconds=100)
    """While rows come, how soon the feed is polled again, after fewer than ten rows two and a half
    times as late; each follow-up poll that finds none doubles the wait, for a second after ten rows
    or more once only, until beat's next poll. At `poll_every`, or above 30 s: no follow-up polls."""
    poll_budget: Duration = timedelta(seconds=20)
    """How long one poll may go on reading pages before it lets others run."""
    page_size: int = Field(default=1000, ge=1, le=50_000)
    batch_size: int = Field(default=250, ge=1, le=1000)
    max_backlog: int = Field(default=100_000, ge=1)
    """Above this many open deliveries the feed is not polled."""
    max_payload: int = Field(default=1_000_000, ge=1, le=15_000_000)
    """Bytes of JSON; a larger row becomes a dead letter that says so (a MongoDB document is at most
    16 MB).
    """
    filter: tuple[Condition, ...] = Field(default=(), max_length=20)
    """All must hold for a row to be sent; the others are logged as `skipped`, with the reason."""
    body: str | Mapping[str, Any] | None = Field(default=None, repr=False, min_length=1)
    """What is sent in place of the row: a template, or a function as `package.module:name` (see
    `docs/feeds.md`).
    """
    secrets: tuple[SecretStr, ...] = Field(default=(), repr=False)
    """The values of `${NAME}` in `partner` and `body`, except for hosts in URLs: set by `config`,
    shown nowhere.
    """
    partner: Partner
    retry: Retry = Retry()
    retention: Retention = Retention()

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not re.fullmatch(NAME, name):
            raise ValueError(
                "a feed's name of letters, digits, _ and -, at most 63, that begins with a letter"
            )
        return name

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _cursor_goes_with_the_rest(self) -> Feed:
        if self.capture == "changes" and self.cursor.unseen_updates is not None:
            seen = " or ".join(name for name, spec in SPECS.items() if spec.unseen_updates is None)
            raise ValueError(
                f'capture = "changes" needs strategy {seen}: {self.cursor.unseen_updates}'
            )
        tested = {condition.column for condition in (*self.where, *self.filter)}
        if reason := self.cursor.unfit(capture=self.capture, key=self.key, tested=tested):
            raise ValueError(reason)
        return self
