"""What every task is: it binds the log context, hands its work over to the event loop, and counts what failed."""

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
        self, work: Callable[[Services], Awaitable[object]], feed: str | None = None, *, alone: bool = True
    ) -> None:
        """Have the loop see the work through. `alone`: it is left out while the same is under way in this process.

        Raises what keeps the services from being opened.
        """
        about = About(self.name, feed)
        self.relay.runtime.call(lambda services: services.under_way.start(lambda: work(services), about, alone=alone))
