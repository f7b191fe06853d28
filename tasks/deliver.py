"""Deliver one batch."""

from __future__ import annotations

from celery import shared_task

from tasks.base import RelayTask


@shared_task(name="deliver", base=RelayTask, bind=True)
def deliver(self: RelayTask, batch: str, feed: str, n: int) -> None:
    """Send the batch's open deliveries as soon as the feed has room for it, here or at another
    worker.
    """
    self.relay.runtime.call(lambda services: services.dispatch.hint(feed, batch, n))
