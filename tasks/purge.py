"""Delete what has been kept for long enough."""

from __future__ import annotations

from celery import shared_task

from app.jobs.schedule import PURGE
from tasks.base import RelayTask


@shared_task(name=PURGE.task, base=RelayTask, bind=True)
def purge(self: RelayTask) -> None:
    """Each feed's records, then the reports, every hour."""
    self.hand_over(lambda services: services.periodic.run(PURGE.name))
