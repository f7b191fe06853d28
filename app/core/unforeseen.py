"""What fails for a reason that nobody foresaw: kept by the process, said in its mark, and not tried again at once.

A failure that was foreseen leaves its trace where it happens: a poll in the feed's cursor, a job in its tick, a
delivery among its attempts. Everything else ends in a task that raises. There it is noted, for every task alike; the
marker (`app.monitoring.heartbeat`) writes it into the ledger within seconds, over a connection of its own, and
`status`, `health` and the metrics read it there. It is gone with the first run that ends well, and with the process. So
is what kept rows from being sent for want of something of our own: it is no attempt.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.clock import AGREED, Clock, utc_now
from app.core.errors import RowrelayError
from app.core.shown import one_line

FIRST_REST, LONGEST_REST = timedelta(seconds=5), timedelta(minutes=5)
SHOWN_FOR = timedelta(minutes=15)
"""A failure that is neither repeated nor followed by a success for so long is not spoken of any more."""
SAID_EVERY = timedelta(minutes=1)
"""How often the log says what is wanting, and how long nothing must have been before it is not spoken of any more."""
KEPT = 50
"""Of so many tasks and feeds at most."""
_ERROR_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that fails, again and again, for one feed or for none in particular."""

    task: str
    feed: str | None
    subject: str | None
    """What it failed at: a batch. Only its own success ends the trouble."""
    error: str
    failures: int
    """In a row."""
    since: datetime
    at: datetime
    """When it last failed."""

    @property
    def name(self) -> str:
        """Task, and feed where there is one."""
        return f"{self.task} of {self.feed}" if self.feed else self.task

    @property
    def rests_until(self) -> datetime:
        """Before then it is not tried again."""
        return self.at + min(FIRST_REST * 2.0 ** min(self.failures - 1, 20), LONGEST_REST)


@dataclass(slots=True)
class Troubles:
    """One process's, from any of its threads."""

    now: Clock = utc_now
    _kept: dict[tuple[str, str | None], Trouble] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def resting(self, task: str, feed: str | None) -> Trouble | None:
        """The trouble for which the task is not to be run now."""
        found, now = self._kept.get((task, feed)), self.now()
        return found if found and found.at - AGREED <= now < found.rests_until else None

    @contextmanager
    def noted(self, task: str, feed: str | None, subject: str | None = None) -> Iterator[None]:
        """Within it, what is raised and no retry mends is kept; what ends well ends what was kept of it."""
        try:
            yield
        except Exception as error:
            self.failed(task, feed, subject, error)
            raise
        self.went_well(task, feed, subject)

    def failed(self, task: str, feed: str | None, subject: str | None, error: Exception) -> None:
        """Keep it, unless a retry mends it."""
        if not (isinstance(error, RowrelayError) and error.retryable):
            self._keep(task, feed, subject, error)

    def went_well(self, task: str, feed: str | None, subject: str | None) -> None:
        """What was kept of it is over."""
        found = self._kept.get((task, feed))
        if found and (found.subject == subject or self.now() - found.at > SHOWN_FOR):
            self._kept.pop((task, feed), None)

    def lacking(self, what: str, feed: str, error: str) -> bool:
        """Keep that something could not be done for want of something of our own. Returns whether that is news, or
        was last said a minute ago."""
        with self._lock:
            now, before = self.now(), self._kept.get((what, feed))
            news = before is None or before.error != error or now - before.since > SAID_EVERY
            if before is None and len(self._kept) >= KEPT:
                return news
            failures = before.failures + 1 if before else 1
            since = now if before is None or news else before.since
            self._kept[what, feed] = Trouble(what, feed, None, error[:_ERROR_LIMIT], failures, since, now)
            return news

    def passed(self, what: str, feed: str) -> None:
        """It was done, and nothing has been wanting for a while."""
        found = self._kept.get((what, feed))
        if found and self.now() - found.at > SAID_EVERY:
            self._kept.pop((what, feed), None)

    def current(self) -> tuple[Trouble, ...]:
        """What fails now."""
        with self._lock:
            return tuple(self._kept.values())

    def _keep(self, task: str, feed: str | None, subject: str | None, error: Exception) -> None:
        with self._lock:
            now, before = self.now(), self._kept.get((task, feed))
            failures, since = (before.failures + 1, before.since) if before else (1, now)
            if before or len(self._kept) < KEPT:
                self._kept[task, feed] = Trouble(task, feed, subject, told(error), failures, since, now)


def told(error: Exception) -> str:
    """One line for the ledger. What an error that nobody foresaw says may hold a secret: that is left to the log."""
    name, text = type(error).__name__, one_line(error, _ERROR_LIMIT)
    if isinstance(error, RowrelayError):
        return text
    return f"{name}, see the process's log" if is_bug(error) else f"{name}: {text}"


def is_bug(error: Exception) -> bool:
    """Whether nobody foresaw it, and the log wants its traceback."""
    return not isinstance(error, RowrelayError | OSError)
