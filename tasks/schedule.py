"""What beat sends, and how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from celery.schedules import schedule

from app.core.clock import LONG_AGO, steady_now
from app.jobs.schedule import JOBS
from config import Config

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


def beat_schedule(config: Config) -> dict[str, dict[str, Any]]:
    """One poll entry a feed, the retries, the sweep, notifications, and a knock for each periodic
    job.
    """
    polls = {
        f"poll:{name}": _periodic("poll", feed.poll_every, feed=name)
        for name, feed in config.feeds.items()
    }
    jobs = {job.task: _periodic(job.task, JOBS_EVERY) for job in JOBS}
    sweeps = {
        "retries": _periodic("retries", RETRIES_EVERY),
        "sweep": _periodic("sweep", config.settings.sweep_every),
        "adopt_orphans": _periodic("adopt_orphans", ORPHANS_EVERY),
    }
    notify = {"notify": _periodic("notify", NOTIFY_EVERY)} if config.settings.notifies else {}
    return polls | sweeps | notify | jobs


def _periodic(task: str, every: timedelta, **kwargs: Any) -> dict[str, Any]:
    """A beat entry whose message expires when the next one is due, or soon after: a queue of old
    polls helps nobody.

    It is due when beat starts: one that is restarted again and again still sends everything.
    """
    seconds = every.total_seconds()
    options = {"expires": max(seconds, SHORTEST_EXPIRY.total_seconds())}
    return {
        "task": task,
        "schedule": schedule(seconds, nowfun=steady_now),
        "kwargs": kwargs,
        "options": options,
        "last_run_at": LONG_AGO,
    }
