"""Put back on the queue what the ledger says is owed."""

from __future__ import annotations

from celery import shared_task

from tasks.base import RelayTask


@shared_task(name="retries", base=RelayTask, bind=True)
def retries(self: RelayTask) -> None:
    """Due retries, and batches whose time has come."""
    self.hand_over(lambda services: services.sweeping.requeue())


@shared_task(name="sweep", base=RelayTask, bind=True)
def sweep(self: RelayTask) -> None:
    """The same, and how each feed stands."""
    self.hand_over(lambda services: services.sweeping.sweep())


@shared_task(name="adopt_orphans", base=RelayTask, bind=True)
def adopt_orphans(self: RelayTask) -> None:
    """Queued deliveries whose batch is gone."""
    self.hand_over(lambda services: services.sweeping.adopt_orphans())
