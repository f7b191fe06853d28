"""What every task shares: the process's runtime, and how its work is handed over to the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from celery import Task

from app.core.errors import RowrelayError
from app.core.logs import describe
from app.core.under_way import About, note_failure
from app.monitoring.heartbeat import Activity
from app.runtime import descriptors
from app.runtime.loop import Runtime
from app.runtime.worker import Services, open_worker
from celery_app import app, loaded
from tasks.queue import CeleryQueue

log = structlog.get_logger()

progress = Activity()
queue = CeleryQueue(app)
runtime = Runtime(lambda: open_worker(loaded, queue, progress))


def fit_descriptors() -> None:
    """Have the process allowed as many files as its feeds need, and say where it is not."""
    need = descriptors.need_of(loaded.feeds.values(), loaded.settings.worker_concurrency)
    short = descriptors.shortage(need, descriptors.raise_limit(need).soft)
    if short and short != progress.short_of:
        log.warning("file_descriptors_short", found=short)
    progress.short_of = short


class TaskCrashed(Exception):
    """A task failed in a way that nobody foresaw. The log has the traceback; this has no text of a driver's."""


class RelayTask(Task[Any, Any]):
    """Binds the log context, and keeps what nobody foresaw (`app.core.unforeseen`). Never retries: what failed is in
    the ledger, and the next poll or sweep meets it again.

    A task hands its work over to the event loop and is done, so that none waits in one of Celery's slots. What becomes
    of the work is seen to by `app.core.under_way`.
    """

    abstract = True
    hands_over = True
    throws = (RowrelayError,)  # expected: one line in the log, no traceback

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        about = About(self.name, kwargs.get("feed"), kwargs.get("batch"))
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, **about.fields):
            try:
                return super().__call__(*args, **kwargs)
            except Exception as error:
                note_failure(progress.troubles, about, error)
                if isinstance(error, RowrelayError):
                    raise error from None
                raise TaskCrashed(describe(error)) from None  # Celery would tell Flower its text


def hand_over(
    task: str, work: Callable[[Services], Awaitable[object]], feed: str | None = None, *, alone: bool = True
) -> None:
    """Have the loop see the work through. `alone`: it is left out while the same is under way in this process.

    Raises what keeps the services from being opened.
    """
    about = About(task, feed)
    runtime.call(lambda services: services.under_way.start(lambda: work(services), about, alone=alone))
