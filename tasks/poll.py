"""Poll one feed for new rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from app.core.cursors import FollowUp
from app.runtime.worker import Services
from celery_app import app, loaded
from tasks.base import RelayTask, hand_over, queue

log = structlog.get_logger()


@app.task(name="poll", base=RelayTask)
def poll(feed: str, after: float | None = None, until: float | None = None) -> None:
    """Log the feed's new rows and queue them; while rows come, have it looked at again before beat's next poll.

    `after` (seconds) and `until` (seconds since 1970): the look that this is. Beat gives neither.
    """
    look = None
    if after is not None and until is not None:
        look = FollowUp(timedelta(seconds=after), datetime.fromtimestamp(until, UTC))
    hand_over("poll", lambda services: _poll(services, feed, look), feed, alone=False)


async def _poll(services: Services, name: str, look: FollowUp | None) -> None:
    feed = loaded.feeds.get(name)
    if feed is None:  # it went while its message was on the way; that is nobody's failure
        log.info("poll_of_no_feed")
        return
    if again := (await services.polling.poll(feed, look)).again:
        await queue.look_again(name, again)
