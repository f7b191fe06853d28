"""Poll one feed for new rows."""

from __future__ import annotations

from celery_app import app, loaded
from tasks.base import RelayTask, runtime


@app.task(name="poll", base=RelayTask)
def poll(feed: str) -> None:
    """Log the feed's new rows and queue them."""
    spec = loaded.feed(feed)
    runtime.run(lambda services: services.polling.poll(spec))
