"""Compare the sources with the ledger."""

from __future__ import annotations

from app.jobs.periodic import RECONCILE
from celery_app import app
from tasks.base import RelayTask, hand_over


@app.task(name="reconcile", base=RelayTask)
def reconcile() -> None:
    """Each feed, once the day is over."""
    hand_over("reconcile", lambda services: services.periodic.run(RECONCILE.name))
