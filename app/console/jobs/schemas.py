"""Periodic jobs, as the API gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from app.console.schemas import Schema, Why
from app.operations.run_job import Outcome


class JobShown(Schema):
    """How one job is doing."""

    name: str
    every: str
    misfire: str = Field(description="What becomes of periods that ended while no worker ran.")
    last_done: str | None = Field(description="The latest period that is done.")
    done_at: datetime | None
    duration_ms: int | None
    next_period: str | None
    next_due: datetime | None
    now: str
    last_error: str | None
    error_period: str | None
    ok: bool
    any_time: bool = Field(description="It may be run between two periods.")


class JobsShown(Schema):
    """All of them."""

    timezone: str = Field(description="Whose hours and days they go by.")
    items: Sequence[JobShown]


class RunAsked(Schema):
    """To run one now."""

    why: Why


class RunShown(Schema):
    """What came of it."""

    name: str
    outcome: Outcome
    period: str | None
