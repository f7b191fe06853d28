"""Deliver one batch."""

from __future__ import annotations

from celery_app import app, loaded
from tasks.base import RelayTask, hand_over, runtime


@app.task(name="deliver", base=RelayTask)
def deliver(batch: str, feed: str, n: int) -> None:
    """Have the batch's open deliveries sent as soon as the feed has room for it, here or at another worker."""
    spec = loaded.feeds.get(feed)
    if spec is None:
        hand_over("deliver", lambda services: services.delivering.pass_over(feed, batch), feed, alone=False)
    else:
        runtime.call(lambda services: services.dispatch.hint(spec, batch, n))
