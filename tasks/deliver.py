"""Deliver one batch."""

from __future__ import annotations

from celery_app import app, loaded
from tasks.base import RelayTask, runtime


@app.task(name="deliver", base=RelayTask, rests=False)
def deliver(batch: str, feed: str, n: int) -> None:  # noqa: ARG001 - n is for whoever reads the message
    """Send the batch's open deliveries, unless another worker has it."""
    spec = loaded.feeds.get(feed)
    if spec is None:
        runtime.run(lambda services: services.delivering.pass_over(feed, batch))
    else:
        runtime.run(lambda services: services.delivering.deliver(spec, batch))
