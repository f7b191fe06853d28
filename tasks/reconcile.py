"""Compare the sources with the ledger."""

from __future__ import annotations

from celery import shared_task

from app.jobs.schedule import RECONCILE
from tasks.base import RelayTask


@shared_task(name=RECONCILE.task, base=RelayTask, bind=True)
def reconcile(self: RelayTask) -> None:
    """Each feed, once the day is over."""
    self.hand_over(lambda services: services.periodic.run(RECONCILE.name))
