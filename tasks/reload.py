"""SIGHUP has worker and beat read their configuration anew, where Celery's worker would start
itself anew.

The signal handler notes the signal and returns; a thread does the rest
(`app/configuration/reload.py`). With a pool of processes each of them is told, for it is there that
feeds are worked at.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.apps import worker

from app.configuration.reload import Changes, Reloader
from app.runtime import descriptors
from config import Config

if TYPE_CHECKING:
    from app.runtime.worker import Services
    from tasks.application import RelayCelery

STDOUT = 1
TO_CHILDREN = signal.SIGUSR2
"""SIGHUP ends a process of a pool: billiard sees to that after all that we may do there."""
_OF_CELERY = ("install_worker_restart_handler", "install_HUP_not_supported_handler")


class Reloading:
    """One process's: the signal, and the thread that reads."""

    def __init__(self, app: RelayCelery) -> None:
        self._app = app
        self._on_terminal = os.isatty(STDOUT)
        self._reloader = Reloader(app.loaded, self._apply)
        self._children: Callable[[], Mapping[str, Any]] = dict
        self._tell: Callable[[], object] = lambda: None

    def install(self) -> None:
        """Listen to SIGHUP from now on, in Celery's place. To be called in the main thread, before
        Celery does.
        """
        for name in _OF_CELERY:
            setattr(worker, name, lambda *_, **__: None)
        signal.signal(signal.SIGHUP, self._asked)
        signal.signal(TO_CHILDREN, signal.SIG_IGN)  # also in a child that does not listen yet

    def start(
        self, tell: Callable[[], object], children: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        """Begin to act on it. `tell`: called when something came of it. `children`: what a pool
        says of itself.
        """
        self._tell, self._children = tell, children
        self._reloader.start(self._done)

    def start_in_child(self) -> None:
        """The same, in a process of a pool. What it has is what the worker had when it was forked:
        that may be old.
        """
        self._children, self._reloader = dict, Reloader(self._app.loaded, self._apply)
        signal.signal(TO_CHILDREN, self._asked)
        self._reloader.ask()
        self._reloader.start()

    def _asked(self, *_: object) -> None:
        """In a signal handler: a terminal that was closed sends this signal too, and then the
        process ends.
        """
        if self._on_terminal and not os.isatty(STDOUT):
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._reloader.ask()

    def _done(self) -> None:
        for child in self._children().get("processes", ()):
            with suppress(ProcessLookupError):
                os.kill(child, TO_CHILDREN)
        self._tell()

    def _apply(self, found: Config) -> None:
        app = self._app
        removed = Changes.between(app.loaded.feeds, found.feeds).removed

        def take(services: Services | None) -> None:
            if services:
                services.take(found.feeds, removed)
            app.loaded.replace(found)

        app.runtime.change(take)
        descriptors.fit(app.loaded, app.activity)
