"""What is told of a traced method follows the method: its name, its parameters and their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from app.monitoring.tracing import STEPS, Step

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _named(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in _NAMED
    ]


def disagreement(step: Step[Any, Any, Any]) -> str | None:
    """Why the step's `before` does not fit its method; `None`: it does."""
    if getattr(step.owner, step.method.__name__, None) is not step.method:
        return f"{step.owner.__name__} has no such method"
    _, *taken = _named(step.method)
    told = _named(step.before)
    if [(one.name, one.annotation) for one in taken[: len(told)]] != [
        (one.name, one.annotation) for one in told
    ]:
        return f"takes {taken}, and is told of by {told}"
    kinds = {parameter.kind for parameter in inspect.signature(step.before).parameters.values()}
    by_name = inspect.Parameter.VAR_KEYWORD in kinds
    return (
        None if len(taken) == len(told) or by_name else f"takes more than it is told of by: {taken}"
    )


@pytest.mark.parametrize(
    "step", STEPS, ids=lambda step: f"{step.owner.__name__}.{step.method.__name__}"
)
def test_a_step_is_told_of_by_its_methods_own_arguments(step: Step[Any, Any, Any]) -> None:
    assert inspect.iscoroutinefunction(step.method)
    assert disagreement(step) is None


class _Reader:
    async def read(self, feed: str, rows: int = 0) -> int:
        return rows + len(feed)


def _renamed(name: str, **_: object) -> dict[str, str]:
    return {"feed": name}


def _retyped(feed: bytes, **_: object) -> dict[str, str]:
    return {"feed": feed.decode()}


def _short(feed: str) -> dict[str, str]:
    return {"feed": feed}


def _fitting(feed: str, *_: object, **__: object) -> dict[str, str]:
    return {"feed": feed}


@pytest.mark.parametrize(
    ("before", "fits"), [(_fitting, True), (_renamed, False), (_retyped, False), (_short, False)]
)
def test_the_check_can_fail(before: Callable[..., Any], fits: bool) -> None:
    step: Step[Any, Any, Any] = Step(_Reader, _Reader.read, "read", before)
    assert (disagreement(step) is None) is fits
