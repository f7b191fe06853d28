"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

PAUSE_SECONDS = 0.02


async def until(
    condition: Callable[[], Any | Awaitable[Any]],
    timeout: float = 10.0,  # noqa: ASYNC109 - how long to ask again, not a bound on one await
    message: str = "the condition",
) -> Any:
    """Ask `condition`, a plain or an async callable, until what it gives is true, and return that.

    Raises `AssertionError` with `message` and the last answer after `timeout` seconds.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        _check(deadline, timeout, message, answer)
        await asyncio.sleep(PAUSE_SECONDS)


def wait_until(
    condition: Callable[[], Any], timeout: float = 10.0, message: str = "the condition"
) -> Any:
    """`until` for tests without an event loop."""
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        _check(deadline, timeout, message, answer)
        time.sleep(PAUSE_SECONDS)


def _check(deadline: float, timeout: float, message: str, answer: object) -> None:
    __tracebackhide__ = True
    if time.monotonic() > deadline:
        raise AssertionError(f"waited {timeout:g} s for {message}; last answer: {answer!r}")
