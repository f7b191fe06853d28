"""A feed as an operator writes it in `feeds.toml`: typed, bounded, with defaults that are safe in
production.

Every field that is wrong is reported at once, with what was found and what is allowed (see
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
    """One condition on a column. The column is looked up in the catalogue and the value is bound,
    never pasted.
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
        """The value, or the values, or none."""
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
    """Turn `"200/second"` into a `Rate`. Raises `ValueError` for text of another form."""
    if not isinstance(value, str):
        return value
    match = _RATE.fullmatch(value.strip())
    if not match:
        raise ValueError('a rate such as "200/second", "600/minute" or "10000/hour"')
    return Rate(count=int(match[1]), per_seconds=_RATE_SECONDS[match[2]])


class Breaker(Frozen):
    """When an endpoint that keeps failing is left alone for a while, by all workers. Costs no
    delivery an attempt.
    """

    enabled: bool = True
    failure_ratio: float = Field(default=0.5, gt=0, le=1)
    """Opens when this part of the window's requests had no answer, a 408, a 5xx, or a 2xx that is
    to be retried. Other answers prove it alive."""
    window: Duration = timedelta(seconds=30)
    min_requests: int = Field(default=20, ge=1)
    """Fewer requests than this in the window prove nothing; then failures in a row count."""
    consecutive_failures: int = Field(default=10, ge=0, le=100_000)
    """With fewer requests than that, so many such answers in a row open it, however slowly they
    come. 0: never.
    """
    open_for: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(seconds=10)
    """How long nothing is sent; then the probes go. Twice as long each time that they fail."""
    open_for_cap: Annotated[Duration, Field(le=timedelta(days=1))] = timedelta(minutes=2)
    """The longest that becomes. Never longer than `backoff_cap`, nor shorter than `open_for`."""
    probes: int = Field(default=3, ge=1, le=1000)
    """Requests let through by all workers together; it closes when all succeed, or nobody wants
    more for `open_for`, and opens again when one fails."""


class Partner(Frozen):
    """The endpoint that every row of the feed is sent to, and how gently."""

    url: HttpUrl
    """May hold a user and password, so no repr shows it."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    auth: Auth = NoAuth()
    tls: Tls | None = None
    signing: Signing | None = None
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """A value `$column` is taken from each row; `$$` stands for a `$`."""
    concurrency: int = Field(default=100, ge=1, le=10_000)
    """Requests in flight, over all workers: each takes its part, and at least 1."""
    rate_limit: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    """Over all workers. No value: no limit."""
    breaker: Breaker = Breaker()
    timeout: Duration = timedelta(seconds=10)
    """The deadline of one attempt, from before connecting to the last byte of the answer."""
    connect_timeout: Duration = timedelta(seconds=5)
    stop_after: int = Field(default=10, ge=0, le=100_000)
    """So many refusals in a row, and nothing accepted in between, pause the feed. 0: never."""
    success: Success | None = None
    status_url: Annotated[str, AfterValidator(checked_status_url)] | None = Field(
        default=None, repr=False
    )
    """Asked before a row is sent again whose last attempt may have reached the partner."""


class Retry(Frozen):
    """When a failed delivery is tried again, and when it is given up."""

    max_age: Duration = timedelta(days=3)
    """Counted from when the row was logged; an attempt that fails after that makes the delivery a
    dead letter.
    """
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    """Ends it sooner. `None`: `max_age` alone does, whatever the backoff."""
    backoff: Duration = timedelta(seconds=1)
    """The first retry waits about this long; the wait doubles with each attempt (see
    `policy.backoff`).
    """
    backoff_cap: Duration = timedelta(hours=1)


class Retention(Frozen):
    """How long the ledger keeps what is settled: delivered, cancelled, skipped, or dead and
    acknowledged.
    """

    payload_days: int = Field(default=7, ge=0, le=36_500)
    """The row's content is dropped this long after it was settled; the record stays. From `days`
    on: with it.
    """
    days: int = Field(default=90, ge=1, le=36_500)
    """The record and its attempts are deleted, by whole days (UTC), this long after it was settled.
    """
    stats_days: int = Field(default=90, ge=9, le=36_500)
    """The counts by the minute. Reports are compiled from them, up to 8 days late after an absence,
    and stay as long as `report_days` says."""
    report_days: int = Field(default=730, ge=1, le=36_500)
    """Reports and certificates; the last certificate stays."""
    archive: bool = True
    """Where `ARCHIVE_DIR` is set: records are written there before they are deleted."""


class Feed(Frozen):
    """One source table (or view) whose new rows go to one partner endpoint."""

    name: str
    table: str = Field(min_length=1)
    """`table` or `schema.table`."""
    key: tuple[str, ...] = Field(min_length=1)
    """The columns that identify a row: one or several."""
    cursor: Annotated[Cursor, BeforeValidator(spec_of)]
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns sent; all of the table when not given."""
    on_new_column: Literal["include", "ignore", "pause"] = "include"
    """Without `columns`: what follows when the table gets another column. `include`: it is sent
    from then on, by all workers alike; `ignore`: it is not; `pause`: the feed waits for an
    operator, and what is logged is still sent."""
    where: tuple[Condition, ...] = Field(default=(), max_length=20)
    """Conditions that all have to hold for a row to be sent. The cursor moves past the other rows.
    """
    capture: Literal["inserts", "changes"] = "inserts"
    """`inserts`: each row is delivered once. `changes`: each update of a row is a delivery of its
    own.
    """
    poll_every: Duration = timedelta(seconds=5)
    poll_soonest: Duration = timedelta(milliseconds=250)
    """While rows come, how soon the feed is polled again; each follow-up poll that finds none
    doubles the wait, until beat's next poll. At `poll_every`, or above 30 s: no follow-up polls."""
    poll_budget: Duration = timedelta(seconds=20)
    """How long one poll reads page after page before it makes room for others."""
    page_size: int = Field(default=1000, ge=1, le=50_000)
    batch_size: int = Field(default=100, ge=1, le=1000)
    max_backlog: int = Field(default=100_000, ge=1)
    """Above this many open deliveries the feed is not polled."""
    max_payload: int = Field(default=1_000_000, ge=1, le=15_000_000)
    """Bytes of JSON; a larger row becomes a dead letter with the reason (a MongoDB document holds
    16 MB).
    """
    filter: tuple[Condition, ...] = Field(default=(), max_length=20)
    """Conditions that all have to hold for a row to be sent. The other rows are logged as skipped,
    with the reason.
    """
    body: str | Mapping[str, Any] | None = Field(default=None, repr=False, min_length=1)
    """What is sent in place of the row: a template, or a function as `package.module:name` (see
    `docs/feeds.md`).
    """
    secrets: tuple[SecretStr, ...] = Field(default=(), repr=False)
    """What `${NAME}` stands for in `partner` and `body`, but for where URLs lead: given by
    `config`, shown nowhere.
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
