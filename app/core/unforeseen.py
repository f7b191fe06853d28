"""Unforeseen failures: remembered by the process, reported in its heartbeat, and not retried at
once.

A foreseen failure is recorded where it happens: a poll's in the feed's cursor, a job's in its tick,
a delivery's among its attempts. Everything else ends in a task that raises, and is noted here for
every task alike. The heartbeat writes it to the ledger within seconds, over a connection of its
own, for `status`, `health` and the metrics. It is forgotten with the first successful run, and with
the process. So are resources of our own that rows lacked to be sent: that is no attempt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.backoff import doubled
from app.core.clock import AGREED, Clock, utc_now
from app.core.errors import RowrelayError
from app.core.shown import one_line

FIRST_REST, LONGEST_REST = timedelta(seconds=5), timedelta(minutes=5)
SHOWN_FOR = timedelta(minutes=15)
"""A failure neither repeated nor followed by a success for this long is no longer reported."""
SAID_EVERY = timedelta(minutes=1)
"""How often the log names what is lacking, and how long nothing must be lacking until it is no
longer reported.
"""
KEPT = 50
"""Most troubles that are remembered."""
_ERROR_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that keeps failing, for one feed or for none in particular."""

    task: str
    feed: str | None
    subject: str | None
    """What it failed on: a batch. Only that batch's success ends the trouble."""
    error: str
    failures: int
    """In a row."""
    since: datetime
    at: datetime
    """When it last failed."""

    @property
    def name(self) -> str:
        """The task, and the feed if there is one."""
        return f"{self.task} of {self.feed}" if self.feed else self.task

    @property
    def rests_until(self) -> datetime:
        """It is not retried before then."""
        return self.at + doubled(FIRST_REST, self.failures - 1, LONGEST_REST)


@dataclass(slots=True)
class Troubles:
    """One process's, from any of its threads."""

    now: Clock = utc_now
    _kept: dict[tuple[str, str | None], Trouble] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def resting(self, task: str, feed: str | None) -> Trouble | None:
        """The trouble because of which the task must not run now."""
        found, now = self._kept.get((task, feed)), self.now()
        return found if found and found.at - AGREED <= now < found.rests_until else None

    @contextmanager
    def noted(self, task: str, feed: str | None, subject: str | None = None) -> Iterator[None]:
        """Remember what the body raises, unless a retry fixes it; forget the trouble when the body
        succeeds.
        """
        try:
            yield
        except Exception as error:
            self.failed(task, feed, subject, error)
            raise
        self.went_well(task, feed, subject)

    def failed(self, task: str, feed: str | None, subject: str | None, error: Exception) -> None:
        """Remember it, unless a retry fixes it."""
        if not (isinstance(error, RowrelayError) and error.retryable):
            self._keep(task, feed, subject, error)

    def went_well(self, task: str, feed: str | None, subject: str | None) -> None:
        """Forget its trouble."""
        found = self._kept.get((task, feed))
        if found and (found.subject == subject or self.now() - found.at > SHOWN_FOR):
            self._kept.pop((task, feed), None)

    def lacking(self, what: str, feed: str, error: str) -> bool:
        """Remember that a resource of our own was lacking. Returns whether that is new, or was last
        logged a minute ago.
        """
        with self._lock:
            now, before = self.now(), self._kept.get((what, feed))
            news = before is None or before.error != error or now - before.since > SAID_EVERY
            if before is None and len(self._kept) >= KEPT:
                return news
            failures = before.failures + 1 if before else 1
            since = now if before is None or news else before.since
            self._kept[what, feed] = Trouble(
                what, feed, None, error[:_ERROR_LIMIT], failures, since, now
            )
            return news

    def passed(self, what: str, feed: str) -> None:
        """It was done, and nothing has been lacking for a while."""
        found = self._kept.get((what, feed))
        if found and self.now() - found.at > SAID_EVERY:
            self._kept.pop((what, feed), None)

    def current(self) -> tuple[Trouble, ...]:
        """The current troubles."""
        with self._lock:
            return tuple(self._kept.values())

    def _keep(self, task: str, feed: str | None, subject: str | None, error: Exception) -> None:
        with self._lock:
            now, before = self.now(), self._kept.get((task, feed))
            failures, since = (before.failures + 1, before.since) if before else (1, now)
            if before or len(self._kept) < KEPT:
                self._kept[task, feed] = Trouble(
                    task, feed, subject, told(error), failures, since, now
                )


def told(error: Exception) -> str:
    """One line for the ledger. The text of an unforeseen error may hold a secret: only the log has
    it.
    """
    name, text = type(error).__name__, one_line(error, _ERROR_LIMIT)
    if isinstance(error, RowrelayError):
        return text
    return f"{name}, see the process's log" if is_bug(error) else f"{name}: {text}"


def is_bug(error: Exception) -> bool:
    """Whether it is unforeseen, so that the log needs its traceback."""
    return not isinstance(error, RowrelayError | OSError)
