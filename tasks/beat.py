"""Celery's beat, with a schedule that follows the current feeds."""

from __future__ import annotations

import sys
from typing import Any

from celery.apps.beat import Beat as CeleryBeat
from celery.beat import Scheduler

from tasks.application import RelayCelery
from tasks.own_signals import beat_starts
from tasks.schedule import beat_schedule


class Beat(CeleryBeat):
    """Prints its banner only to a terminal."""

    def run(self) -> None:
        """Send what is due, until told to stop."""
        beat_starts.send(sender=self)
        if not sys.stdout.isatty():
            self.quiet = True
        super().run()


class LiveScheduler(Scheduler):
    """Follows the configuration, between ticks, at least once a second."""

    app: RelayCelery

    def __init__(self, app: RelayCelery, *args: Any, **kwargs: Any) -> None:
        self._of = app.loaded.current
        super().__init__(app, *args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. An entry that stays keeps the time it was last sent; a new one is due
        at once.
        """
        current = self.app.loaded.current
        if self._of is not current:
            self._of = current
            entries: dict[str, Any] = beat_schedule(current)
            self.merge_inplace(entries)
            self._heap = None
        return float(super().tick(*args, **kwargs))
