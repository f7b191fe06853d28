"""Compile the reports of the hours and days that are over."""

from __future__ import annotations

from celery import shared_task

from app.jobs.schedule import REPORT_DAY, REPORT_HOUR
from tasks.base import RelayTask


@shared_task(name=REPORT_HOUR.task, base=RelayTask, bind=True)
def report_hour(self: RelayTask) -> None:
    """Each hour that has none yet."""
    self.hand_over(lambda services: services.periodic.run(REPORT_HOUR.name))


@shared_task(name=REPORT_DAY.task, base=RelayTask, bind=True)
def report_day(self: RelayTask) -> None:
    """Each day that has none yet, once it is reconciled."""
    self.hand_over(lambda services: services.periodic.run(REPORT_DAY.name))
