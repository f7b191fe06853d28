"""Poll one feed for new rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from celery import shared_task

from app.core.cursors import FollowUp
from tasks.base import RelayTask
from tasks.queue import CeleryQueue

if TYPE_CHECKING:
    from app.runtime.worker import Services

log = structlog.get_logger()


@shared_task(name="poll", base=RelayTask, bind=True)
def poll(self: RelayTask, feed: str, after: float | None = None, until: float | None = None) -> None:
    """Log the feed's new rows and queue them; while rows come, have it polled again before beat's next poll.

    `after` (seconds) and `until` (seconds since 1970): the follow-up that this is. Beat gives neither.
    """
    follow_up = None
    if after is not None and until is not None:
        follow_up = FollowUp(timedelta(seconds=after), datetime.fromtimestamp(until, UTC))
    queue = self.relay.queue
    self.hand_over(lambda services: _poll(services, queue, feed, follow_up), feed, alone=False)


async def _poll(services: Services, queue: CeleryQueue, name: str, follow_up: FollowUp | None) -> None:
    feed = services.config.feeds.get(name)
    if feed is None:  # it went while its message was on the way; that is nobody's failure
        log.info("poll_of_no_feed")
        return
    if again := (await services.polling.poll(feed, follow_up)).again:
        await queue.poll_again(name, again)
