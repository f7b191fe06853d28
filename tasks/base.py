"""The base of every task: log context, handing work over to the event loop, counting failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery import Task

from app.core.errors import RowrelayError
from app.core.logs import describe
from app.core.under_way import About, note_failure

if TYPE_CHECKING:
    from app.runtime.worker import Services
    from tasks.application import RelayCelery


class TaskCrashed(Exception):
    """An unforeseen failure of a task. The log has the traceback; this carries no driver's text."""


class RelayTask(Task[Any, Any]):
    """Binds the log context and records unforeseen failures (`app.core.unforeseen`). Never retries:
    the ledger knows what is owed, and the next poll or sweep picks it up.

    A task hands its work over to the event loop and is done, so that none waits in one of Celery's
    slots. What becomes of the work is seen to by `app.core.under_way`.
    """

    abstract = True
    hands_over = True
    throws = (RowrelayError,)  # expected: one line in the log, no traceback

    @property
    def relay(self) -> RelayCelery:
        """The application, with what this process runs on."""
        return cast("RelayCelery", self.app)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        about = About(self.name, kwargs.get("feed"), kwargs.get("batch"))
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, **about.fields):
            try:
                return super().__call__(*args, **kwargs)
            except Exception as error:
                note_failure(self.relay.activity.troubles, about, error)
                if isinstance(error, RowrelayError):
                    raise error from None
                raise TaskCrashed(describe(error)) from None  # Celery would tell Flower its text

    def hand_over(
        self,
        work: Callable[[Services], Awaitable[object]],
        feed: str | None = None,
        *,
        alone: bool = True,
    ) -> None:
        """Hand the work over to the event loop. `alone`: skip it while the same work is under way
        in this process.

        Raises what keeps the services from being opened.
        """
        about = About(self.name, feed)
        self.relay.runtime.call(
            lambda services: services.under_way.start(lambda: work(services), about, alone=alone)
        )
