"""SIGHUP has worker and beat read their configuration anew, where Celery's worker would start itself anew.

The signal handler notes the signal and returns; a thread does the rest (`app/configuration/reload.py`). With a pool of
processes each of them is told, for it is there that feeds are worked at.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from celery.apps import worker
from celery.beat import Scheduler
from celery.signals import worker_process_init

from app.configuration.reload import Changes, Reloader
from app.runtime.worker import Services
from celery_app import beat_schedule, loaded
from config import Config
from tasks.base import fit_descriptors, runtime

STDOUT = 1
TO_CHILDREN = signal.SIGUSR2
"""SIGHUP ends a process of a pool: billiard sees to that after all that we may do there."""
_OF_CELERY = ("install_worker_restart_handler", "install_HUP_not_supported_handler")


class Reloading:
    """One process's: the signal, and the thread that reads."""

    def __init__(self) -> None:
        self._on_terminal = os.isatty(STDOUT)
        self._reloader = Reloader(loaded, _apply)
        self._children: Callable[[], Mapping[str, Any]] = dict
        self._tell: Callable[[], object] = lambda: None

    def install(self) -> None:
        """Listen to SIGHUP from now on, in Celery's place. To be called in the main thread, before Celery does."""
        for name in _OF_CELERY:
            setattr(worker, name, lambda *_, **__: None)
        signal.signal(signal.SIGHUP, self._asked)
        signal.signal(TO_CHILDREN, signal.SIG_IGN)  # also in a child that does not listen yet

    def start(self, tell: Callable[[], object], children: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Begin to act on it. `tell`: called when something came of it. `children`: what a pool says of itself."""
        self._tell, self._children = tell, children
        self._reloader.start(self._done)

    def start_in_child(self) -> None:
        """The same, in a process of a pool. What it has is what the worker had when it was forked: that may be old."""
        self._children, self._reloader = dict, Reloader(loaded, _apply)
        signal.signal(TO_CHILDREN, self._asked)
        self._reloader.ask()
        self._reloader.start()

    def _asked(self, *_: object) -> None:
        """In a signal handler: a terminal that was closed sends this signal too, and then the process ends."""
        if self._on_terminal and not os.isatty(STDOUT):
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._reloader.ask()

    def _done(self) -> None:
        for child in self._children().get("processes", ()):
            with suppress(ProcessLookupError):
                os.kill(child, TO_CHILDREN)
        self._tell()


def _apply(found: Config) -> None:
    removed = Changes.between(loaded.feeds, found.feeds).removed

    def take(services: Services | None) -> None:
        if services:
            services.take(found.feeds, removed)
        loaded.replace(found)

    runtime.change(take)
    fit_descriptors()


reloading = Reloading()


@worker_process_init.connect
def _begin_child(**_: object) -> None:
    reloading.start_in_child()


class LiveScheduler(Scheduler):
    """Beat's, which follows the configuration: between two ticks, of which there is one a second at least."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._of = loaded.current
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. An entry that stays goes on from when it was last sent; a new one is due at once."""
        if self._of is not loaded.current:
            self._of = loaded.current
            entries: dict[str, Any] = beat_schedule(self._of)
            self.merge_inplace(entries)
            self._heap = None
        return float(super().tick(*args, **kwargs))
