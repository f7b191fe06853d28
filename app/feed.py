"""A feed as an operator writes it in `feeds.toml`: typed, bounded, with defaults that are safe in production.

Every field that is wrong is reported at once, with what was found and what is allowed (see `config.load`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_RATE = re.compile(r"(\d+)\s*/\s*(second|minute|hour|day)")
_RATE_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def parse_duration(value: object) -> object:
    """Turn `"200ms"`, `"5s"`, `"10m"`, `"2h"`, `"3d"` into a timedelta; leave anything else to pydantic.

    Raises `ValueError` for text of another form.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if not match:
        raise ValueError('a duration such as "200ms", "5s", "10m", "2h" or "3d"')
    return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0), le=timedelta(days=3650))]


class Frozen(BaseModel):
    """Base of every part of a feed: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Strategy(StrEnum):
    """How the cursor knows which rows are new."""

    ROWVERSION = "rowversion"
    IDENTITY = "identity"
    TIMESTAMP = "timestamp"


class CursorSpec(Frozen):
    """Where reading starts and how it goes on."""

    strategy: Strategy
    column: str = Field(min_length=1)
    start: Literal["beginning", "now"] | int = "beginning"
    gap_timeout: Duration = timedelta(minutes=10)
    """`identity`: how long a missing id is asked for again. Longer than the longest transaction that inserts."""
    max_gaps: int = Field(default=1000, ge=10, le=100_000)
    """`identity`: gap ranges kept; above it neighbours are merged, which costs reads but loses nothing."""


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


class NoAuth(Frozen):
    type: Literal["none"] = "none"


class BearerAuth(Frozen):
    type: Literal["bearer"]
    token: SecretStr = Field(min_length=1)


class ApiKeyAuth(Frozen):
    type: Literal["api_key"]
    header: str = Field(default="X-API-Key", min_length=1)
    key: SecretStr = Field(min_length=1)


class BasicAuth(Frozen):
    type: Literal["basic"]
    username: str = Field(min_length=1)
    password: SecretStr


Auth = Annotated[NoAuth | BearerAuth | ApiKeyAuth | BasicAuth, Field(discriminator="type")]


class Partner(Frozen):
    """The endpoint that every row of the feed is sent to, and how gently."""

    url: Annotated[AnyHttpUrl, Field(repr=False)]
    """May hold a user and password, so no repr shows it."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    auth: Auth = NoAuth()
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    concurrency: int = Field(default=100, ge=1, le=10_000)
    """Requests in flight, a worker process."""
    rate_limit: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    timeout: Duration = timedelta(seconds=10)
    """The deadline of one attempt, from before connecting to the last byte of the answer."""
    connect_timeout: Duration = timedelta(seconds=5)


class Retry(Frozen):
    """When a failed delivery is tried again, and when it is given up."""

    max_attempts: int = Field(default=12, ge=1, le=1000)
    max_age: Duration = timedelta(days=3)
    """Counted from when the row was logged; then the delivery is a dead letter."""
    backoff: Duration = timedelta(seconds=1)
    """The first retry waits a random time up to this; the bound doubles with each attempt (full jitter)."""
    backoff_cap: Duration = timedelta(hours=1)


class Retention(Frozen):
    """How long the ledger keeps what is settled."""

    payload_days: int = Field(default=7, ge=0)
    days: int = Field(default=90, ge=1)


class Feed(Frozen):
    """One source table (or view) whose new rows go to one partner endpoint."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    table: str = Field(min_length=1)
    """`table` or `schema.table`."""
    key: tuple[str, ...] = Field(min_length=1)
    """The columns that identify a row: one or several."""
    cursor: CursorSpec
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns sent; all of the table when not given."""
    poll_every: Duration = timedelta(seconds=5)
    poll_budget: Duration = timedelta(seconds=20)
    """How long one poll reads page after page before it makes room for others."""
    page_size: int = Field(default=1000, ge=1, le=50_000)
    batch_size: int = Field(default=100, ge=1, le=1000)
    max_backlog: int = Field(default=100_000, ge=1)
    """Above this many open deliveries the feed is not polled."""
    max_payload: int = Field(default=1_000_000, ge=1, le=15_000_000)
    """Bytes of JSON; a larger row becomes a dead letter with the reason (a MongoDB document holds 16 MB)."""
    partner: Partner
    retry: Retry = Retry()
    retention: Retention = Retention()

    @field_validator("key", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _numbers_start_identities(self) -> Feed:
        if self.cursor.strategy is not Strategy.IDENTITY and isinstance(self.cursor.start, int):
            raise ValueError("cursor.start as a number goes with strategy identity")
        return self
