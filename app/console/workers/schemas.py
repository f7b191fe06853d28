"""Workers and beat, as the API gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from app.console.feeds.schemas import ProcessShown
from app.console.schemas import Schema


class HeldShown(Schema):
    """A feed's rows in a worker's hands."""

    feed: str
    batches: int
    rows: int


class ConfiguredShown(Schema):
    """The configuration that a process runs with."""

    feeds_hash: str
    read_at: datetime
    kept_since: datetime | None = Field(
        description="Since when it has found one that cannot be used."
    )
    kept_because: str | None
    left: Sequence[str] = Field(description="Settings that changed since it started.")


class WorkerShown(ProcessShown):
    """A process, and what it said last."""

    host: str
    pid: int
    started_at: datetime
    stopping: bool
    running: int = Field(description="Tasks in progress.")
    taken: int = Field(description="Messages taken since it started.")
    queues: Sequence[str]
    holds: Sequence[HeldShown]
    clock_seconds: float | None = Field(
        description="By how much its machine's clock is ahead of the ledger server's."
    )
    configuration: ConfiguredShown | None


class WorkersShown(Schema):
    """All that were heard of within the last hour."""

    at: datetime
    feeds_hash: str = Field(description="Of the feeds.toml that the console goes by.")
    items: Sequence[WorkerShown]
