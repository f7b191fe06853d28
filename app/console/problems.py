"""Errors as problem details (RFC 9457): every answer of the API that is no success has this form."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.console.errors import ConsoleError, NotAuthenticated
from app.core.errors import (
    AmbiguousKey,
    ConfigError,
    RowrelayError,
    Unavailable,
    UnknownFeed,
)
from app.core.wrong_values import allowed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
TYPES = "https://rowrelay.invalid/problems/"
"""What a problem's `type` begins with; a name, not an address (RFC 9457, 3.1.1)."""


class FieldProblem(BaseModel):
    """One value that cannot be taken."""

    field: str = Field(description="Where it is: `body.name`, `query.limit`, …")
    said: str = Field(description="What would be right.")


class Problem(BaseModel):
    """Why a request was refused, and what to do (RFC 9457)."""

    type: str = Field(description="Which kind of problem; a URI that names it.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What was wrong with this request, and what to do.")
    errors: list[FieldProblem] = Field(default=[], description="The values at fault.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    "5XX": {
        "description": "The console, or a server behind it, cannot answer now.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
}
"""What every endpoint may answer besides what is described for it (`openapi.py`)."""
REFUSES: dict[int, dict[int | str, dict[str, Any]]] = {
    status: {status: {}} for status in (404, 409, 429)
}
"""Status → `responses` of a route that refuses with it, which its method and path do not tell."""


class ProblemResponse(JSONResponse):
    """The response of a problem."""

    def __init__(self, said: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(said.model_dump(), said.status, headers, MEDIA_TYPE)
        self.problem = said


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
) -> ProblemResponse:
    """The response of a problem."""
    body = Problem(type=TYPES + kind, title=title, status=status, detail=detail, errors=[*errors])
    return ProblemResponse(body, headers)


def of_error(error: RowrelayError) -> ProblemResponse:
    """One of our errors as a problem."""
    if isinstance(error, ConsoleError):
        headers = {}
        if error.retry_after_seconds is not None:
            headers["Retry-After"] = str(error.retry_after_seconds)
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = 'Bearer realm="rowrelay"'
        errors = [FieldProblem(field=error.field, said=str(error))] if error.field else []
        return problem(error.status, error.kind, error.title, str(error), errors, headers)
    match error:
        case UnknownFeed():
            return problem(404, "unknown-feed", "No such feed", str(error))
        case AmbiguousKey():
            return problem(409, "ambiguous-key", "Several deliveries have that key", str(error))
        case Unavailable():
            headers = {"Retry-After": "5"}
            return problem(503, "unavailable", "A server is away", str(error), (), headers)
        case ConfigError():
            return problem(500, "configuration", "The configuration is wrong", str(error))
        case _:
            return problem(502, "refused", "A server behind the console refused", str(error))


async def invalid(_request: Request, error: Exception) -> ProblemResponse:
    """The answer to values that FastAPI did not take."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    errors = [
        FieldProblem(field=".".join(map(str, one["loc"])), said=allowed(cast("ErrorDetails", one)))
        for one in error.errors()
    ]
    detail = "; ".join(f"{one.field}: {one.said}" for one in errors)
    return problem(422, "invalid", "A value cannot be taken", detail, errors)


async def http(_request: Request, error: Exception) -> ProblemResponse:
    """The answer to what the framework refuses: no such address, another method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    kind = status.phrase.lower().replace(" ", "-")
    detail = str(error.detail or status.description or status.phrase)
    return problem(status, kind, status.phrase, detail, (), dict(error.headers or {}))


async def unforeseen(request: Request, error: Exception) -> ProblemResponse:
    """The answer to a fault of ours, which is logged."""
    log.error("request_failed", path=request.url.path, method=request.method, exc_info=error)
    detail = "the console failed on this request; its log says why"
    return problem(500, "error", "The console failed", detail)
