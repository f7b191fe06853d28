"""Deliver one batch."""

from __future__ import annotations

from celery_app import app
from tasks.base import RelayTask, runtime


@app.task(name="deliver", base=RelayTask)
def deliver(batch: str, feed: str, n: int) -> None:
    """Have the batch's open deliveries sent as soon as the feed has room for it, here or at another worker."""
    runtime.call(lambda services: services.dispatch.hint(feed, batch, n))
