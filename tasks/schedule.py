"""What beat sends, and how often.

All is spread over the interval: were all feeds due at the same moment, each poll would wait for
all the others, and so would their rows. Where there are very many, one message asks for the polls
of several feeds. See docs/decisions/0037-one-feeds-share.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from celery.schedules import schedstate, schedule

from app.core.clock import LONG_AGO, steady_now
from app.feeds.feed import Feed
from app.jobs.schedule import JOBS
from config import Config
from tasks.messages import POLLED_TOGETHER

RETRIES_EVERY = timedelta(seconds=1)
"""How late what is due may be put back on the queue: retries, and batches that waited for the
endpoint's throttle.
"""
SHORTEST_EXPIRY = timedelta(seconds=10)
"""A message lives at least this long: one sent every second would else expire in any queue that is
a second behind.
"""
ORPHANS_EVERY = timedelta(minutes=5)
NOTIFY_EVERY = timedelta(seconds=30)
"""How often a worker looks what people must be told of (`app/notifications/notify.py`), where
anybody is to be told.
"""
JOBS_EVERY = timedelta(minutes=1)
"""How often beat knocks for a periodic job. Which periods are due is for the ledger to say
(`app/jobs/periodic.py`).
"""
EARLY_SECONDS = 0.01
"""Beat looks at an entry so long before it is due, and would look again and again until it is."""
POLL_MESSAGES_A_SECOND = 10
"""Of the feeds with one `poll_every`: were there more, a message stands for several feeds."""


class Spread(schedule):
    """Due once in each interval, at a place of its own in it. What was never sent is due at once."""

    def __init__(self, seconds: float, place: float) -> None:
        """`place`: the part of the interval that passes first: from 0 to below 1."""
        super().__init__(seconds, nowfun=steady_now)
        self.place = place * seconds
        self._early = min(EARLY_SECONDS, seconds / 4)

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether it is due, and in how many seconds to ask again."""
        now = self.now().timestamp()
        due_at = self._next_after(last_run_at.timestamp() + self._early)
        if now + self._early < due_at:
            return schedstate(is_due=False, next=due_at - now)
        return schedstate(is_due=True, next=self._next_after(now + self._early) - now)

    def _next_after(self, moment: float) -> float:
        return (math.floor((moment - self.place) / self.seconds) + 1) * self.seconds + self.place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spread) and (self.seconds, self.place) == (
            other.seconds,
            other.place,
        )

    __hash__ = None  # type: ignore[assignment] # as Celery's


def beat_schedule(config: Config) -> dict[str, dict[str, Any]]:
    """The polls, the retries, the sweep, notifications, and a knock for each periodic job."""
    jobs = {job.task: _periodic(job.task, JOBS_EVERY) for job in JOBS}
    sweeps = {
        "retries": _periodic("retries", RETRIES_EVERY),
        "sweep": _periodic("sweep", config.settings.sweep_every),
        "adopt_orphans": _periodic("adopt_orphans", ORPHANS_EVERY),
    }
    notify = {"notify": _periodic("notify", NOTIFY_EVERY)} if config.settings.notifies else {}
    return dict(_polls(config.feeds)) | sweeps | notify | jobs


def _polls(feeds: Mapping[str, Feed]) -> Iterator[tuple[str, dict[str, Any]]]:
    """An entry a feed; where that would be too many messages a second, one for several feeds that
    are polled as often.

    A feed that has an entry of its own keeps its place in the interval, whatever other feeds come
    and go.
    """
    alike: dict[timedelta, list[str]] = defaultdict(list)
    for name, feed in feeds.items():
        alike[feed.poll_every].append(name)
    for every, names in alike.items():
        groups = _groups(names, every)
        if len(groups) == len(names):
            for name in names:
                yield f"poll:{name}", _periodic("poll", every, _place(name), feed=name)
            continue
        for number, group in enumerate(groups):
            entry = _periodic("poll", every, number / len(groups), feeds=group)
            yield f"poll:{group[0]}..{group[-1]}", entry


def _groups(names: Sequence[str], every: timedelta) -> list[list[str]]:
    """What one message asks for: feeds as evenly shared out as can be."""
    few = math.ceil(POLL_MESSAGES_A_SECOND * every.total_seconds())
    count = min(len(names), max(few, math.ceil(len(names) / POLLED_TOGETHER)))
    return [list(names[number::count]) for number in range(count)]


def _place(name: str) -> float:
    """A place in the interval that goes by the name alone."""
    return crc32(name.encode()) / 2**32


def _periodic(
    task: str, every: timedelta, place: float | None = None, **kwargs: Any
) -> dict[str, Any]:
    """A beat entry whose message expires when the next one is due, or soon after: a queue of old
    polls helps nobody. `place`: in the interval; by default the task's.

    It is due when beat starts: one that is restarted again and again still sends everything.
    """
    seconds = every.total_seconds()
    return {
        "task": task,
        "schedule": Spread(seconds, _place(task) if place is None else place),
        "kwargs": kwargs,
        "options": {"expires": max(seconds, SHORTEST_EXPIRY.total_seconds())},
        "last_run_at": LONG_AGO,
    }
