"""What every task shares: the process's runtime, the log context, and how a failure is reported."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task

from app.errors import RowrelayError
from app.runtime import Runtime, open_services
from celery_app import app, loaded
from tasks.queue import CeleryQueue

log = structlog.get_logger()

runtime = Runtime(lambda: open_services(loaded, CeleryQueue(app)))


class RelayTask(Task[Any, Any]):
    """Binds the log context. Never retries: what failed is in the ledger, and the next poll or sweep meets it again."""

    abstract = True
    throws = (RowrelayError,)  # expected: one line in the log, no traceback

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id):
            try:
                return super().__call__(*args, **kwargs)
            except RowrelayError as error:
                log.warning("task_failed", error=str(error), kind=type(error).__name__, retryable=error.retryable)
                raise
