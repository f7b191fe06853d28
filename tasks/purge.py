"""Delete what has been kept for long enough."""

from __future__ import annotations

from app.jobs.periodic import PURGE
from celery_app import app
from tasks.base import RelayTask, hand_over


@app.task(name="purge", base=RelayTask)
def purge() -> None:
    """Each feed's records, then the reports, every hour."""
    hand_over("purge", lambda services: services.periodic.run(PURGE.name))
