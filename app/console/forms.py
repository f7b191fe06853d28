"""What a page's form sent: short texts by name, and what is wrong with each, so that it can be shown again
with what was typed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.console.errors import ConsoleError, Forbidden, Invalid, NotAuthenticated, NotFound, Stale
from app.core.wrong_values import allowed

S = TypeVar("S", bound=BaseModel)

LONGEST_TYPED = 5000


class Refused(Exception):
    """The form was not taken."""

    def __init__(self, errors: Mapping[str, str], problem: str | None = None, status: int = 422):
        """`errors`: field → what would be right. `problem`: what is wrong with all of it."""
        super().__init__(problem or "; ".join(errors.values()))
        self.errors = errors
        self.problem = problem
        self.status = status

    @classmethod
    def of(cls, error: ConsoleError, fields: Collection[str]) -> Refused:
        """What a service said: of one of these fields, or of all of it."""
        name = (error.field or "").rpartition(".")[2]
        if isinstance(error, Invalid) and name in fields:
            return cls({name: str(error)}, status=error.status)
        return cls({}, str(error), error.status)


_ELSEWHERE = (Forbidden, NotAuthenticated, NotFound)
"""Errors that have a page of their own."""


@contextmanager
def refusals(fields: Collection[str]) -> Iterator[None]:
    """What a service refuses becomes `Refused`: of one of these fields, or of all of the form."""
    try:
        yield
    except _ELSEWHERE:
        raise
    except ConsoleError as error:
        raise Refused.of(error, fields) from error


def told_of(refused: Refused | None) -> dict[str, object]:
    """What the page of a form is told of a refusal: `errors`, `problem`, and whether the form is
    `stale`."""
    return {
        "errors": refused.errors if refused else {},
        "problem": refused.problem if refused else None,
        "stale": refused is not None and refused.status == Stale.status,
    }


def status_of(refused: Refused | None) -> int:
    """The HTTP status of the page of a form."""
    return refused.status if refused else 200


async def typed(request: Request, names: Collection[str]) -> dict[str, str]:
    """What was typed into these fields; empty where one was not sent."""
    form = await request.form()
    sent = {name: form.get(name) for name in names}
    return {
        name: value[:LONGEST_TYPED].strip() if isinstance(value, str) else ""
        for name, value in sent.items()
    }


def checked(schema: type[S], values: Mapping[str, object]) -> S:
    """The values as that schema. Raises `Refused`, which says of each field what would be right."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        said = {
            str(one["loc"][0]) if one["loc"] else "": what_is_right(one)
            for one in reversed(error.errors())
        }
        raise Refused(said) from error


def version_of(text: str) -> int:
    """The version that a form was made of. Raises `Stale` for what is none."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise Stale("the form does not say what it was made of: look at it again")


def what_is_right(wrong: ErrorDetails) -> str:
    """What a schema would take in the place of one value."""
    return allowed(wrong) if wrong["type"] == "missing" else f"it takes {allowed(wrong)}"
