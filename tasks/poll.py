"""Poll feeds for new rows, and again, sooner than beat does, while rows come.

A follow-up poll is no message: the process that polled keeps the time itself. So a worker that has
much to do is not given more to receive, and beat's polls of other feeds do not wait behind
follow-ups. See docs/decisions/0025-looking-again.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from celery import shared_task

from app.core.clock import utc_now
from app.core.cursors import FollowUp
from app.core.under_way import About
from tasks.base import RelayTask

if TYPE_CHECKING:
    from app.runtime.worker import Services

log = structlog.get_logger()


@shared_task(name="poll", base=RelayTask, bind=True)
def poll(
    self: RelayTask,
    feed: str | None = None,
    after: float | None = None,
    until: float | None = None,
    *,
    feeds: Sequence[str] = (),
) -> None:
    """Log the new rows of the feed, or of each of the feeds, and queue them; while rows come, poll
    it again before beat's next poll. None of them waits for another.

    `after` (seconds) and `until` (seconds since 1970): the follow-up that this is, where an earlier
    version sent it.
    """
    follow_up = None
    if after is not None and until is not None:
        follow_up = FollowUp(timedelta(seconds=after), datetime.fromtimestamp(until, UTC))
    for name in feeds if feed is None else [feed]:
        self.hand_over(partial(poll_feed, name=name, follow_up=follow_up), name, alone=False)


async def poll_feed(services: Services, name: str, follow_up: FollowUp | None = None) -> None:
    """Poll the feed, and see to the follow-up poll where one is due. Raises what `Polling.poll`
    raises.
    """
    feed = services.config.feeds.get(name)
    if feed is None:  # it went while its message was on the way; that is nobody's failure
        log.info("poll_of_no_feed")
        return
    if again := (await services.polling.poll(feed, follow_up)).again:
        after = again.after.total_seconds()
        asyncio.get_running_loop().call_later(after, _follow_up, services, name, again)


def _follow_up(services: Services, name: str, again: FollowUp) -> None:
    """Begin the follow-up poll, unless the worker stops, or is so late that beat's next poll is
    due.
    """
    if not services.polling.draining and utc_now() < again.until:
        services.under_way.start(lambda: poll_feed(services, name, again), About("poll", name))
