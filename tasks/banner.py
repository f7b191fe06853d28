"""Turns what Celery prints past the log into log events."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any

from celery.apps import worker

from app.core.logs import line


def say_events() -> None:
    """Make the worker's signal handlers log events: its shutdown, and on SIGUSR1 its threads'
    stacks.
    """
    setattr(worker, "safe_say", _say)  # noqa: B010 - the stubs do not know it


def _say(text: str, stream: IO[Any] | None = sys.__stderr__) -> None:
    """Write past the log's lock, which the interrupted code may hold."""
    if stream is not None:
        with suppress(OSError):  # a full disk must not stop a worker from stopping
            os.write(stream.fileno(), line(text, "info", "celery.apps.worker"))
