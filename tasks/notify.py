"""Tell people of events."""

from __future__ import annotations

from celery import shared_task

from tasks.base import RelayTask


@shared_task(name="notify", base=RelayTask, bind=True)
def notify(self: RelayTask) -> None:
    """Check for events, and notify."""
    self.hand_over(lambda services: services.notifying.check_if_due())
