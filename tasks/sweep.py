"""Put back on the queue what the ledger says is owed."""

from __future__ import annotations

from celery_app import app
from tasks.base import RelayTask, hand_over


@app.task(name="retries", base=RelayTask)
def retries() -> None:
    """Due retries, and batches whose time has come."""
    hand_over("retries", lambda services: services.sweeping.requeue())


@app.task(name="sweep", base=RelayTask)
def sweep() -> None:
    """The same, and how each feed stands."""
    hand_over("sweep", lambda services: services.sweeping.sweep())


@app.task(name="adopt_orphans", base=RelayTask)
def adopt_orphans() -> None:
    """Queued deliveries whose batch is gone."""
    hand_over("adopt_orphans", lambda services: services.sweeping.adopt_orphans())
