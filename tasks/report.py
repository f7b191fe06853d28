"""Compile the reports of the hours and days that are over."""

from __future__ import annotations

from app.jobs.periodic import REPORT_DAY, REPORT_HOUR
from celery_app import app
from tasks.base import RelayTask, hand_over


@app.task(name="report_hour", base=RelayTask)
def report_hour() -> None:
    """Each hour that has none yet."""
    hand_over("report_hour", lambda services: services.periodic.run(REPORT_HOUR.name))


@app.task(name="report_day", base=RelayTask)
def report_day() -> None:
    """Each day that has none yet, once it is reconciled."""
    hand_over("report_day", lambda services: services.periodic.run(REPORT_DAY.name))
