"""What every task shares: the process's runtime, the log context, and how a failure is reported."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task

from app.errors import RowrelayError
from app.logs import describe
from app.progress import Progress
from app.runtime import Runtime, open_services
from celery_app import app, loaded
from tasks.queue import CeleryQueue

log = structlog.get_logger()

progress = Progress()
queue = CeleryQueue(app)
runtime = Runtime(lambda: open_services(loaded, queue, progress.troubles))


class TaskCrashed(Exception):
    """A task failed in a way that nobody foresaw. The log has the traceback; this has no text of a driver's."""


class RelayTask(Task[Any, Any]):
    """Binds the log context, and keeps what nobody foresaw (`app.unforeseen`). Never retries: what failed is in the
    ledger, and the next poll or sweep meets it again.
    """

    abstract = True
    rests = True
    """Not run for a while after a failure that nobody foresaw. A batch that fails rests by its own lease."""
    throws = (RowrelayError,)  # expected: one line in the log, no traceback

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        about = {name: kwargs[name] for name in ("feed", "batch") if name in kwargs}
        feed, batch = kwargs.get("feed"), kwargs.get("batch")
        with structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id, **about):
            if self.rests and (trouble := progress.troubles.resting(self.name, feed)):
                log.info("task_rests", failures=trouble.failures, until=trouble.rests_until.isoformat())
                return None
            try:
                with progress.troubles.noted(self.name, feed, batch):
                    return super().__call__(*args, **kwargs)
            except RowrelayError as error:
                log.warning("task_failed", error=str(error), kind=type(error).__name__, retryable=error.retryable)
                raise error from None
            except Exception as error:  # Celery would tell Flower its text
                log.exception("task_crashed", kind=type(error).__name__)
                raise TaskCrashed(describe(error)) from None
