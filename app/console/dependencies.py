"""What routes are given: the services, and who asks."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Header
from starlette.requests import HTTPConnection

from app.console.errors import Invalid, NotAuthenticated, VersionMissing
from app.console.security.authentication import address_of
from app.console.security.roles import Principal
from app.console.services import Services
from app.console.sessions.service import Caller


def services(connection: HTTPConnection) -> Services:
    """The services of this console."""
    return cast("Services", connection.app.state.services)


Given = Annotated[Services, Depends(services)]


async def principal(connection: HTTPConnection, given: Given) -> Principal:
    """Who asks. Raises `NotAuthenticated`."""
    return await given.authentication.principal(connection)


By = Annotated[Principal, Depends(principal)]


async def maybe_principal(connection: HTTPConnection, given: Given) -> Principal | None:
    """Who asks; `None` where nobody is logged in, or with something that is not valid any more."""
    try:
        return await given.authentication.principal(connection)
    except NotAuthenticated:
        return None


MaybeBy = Annotated[Principal | None, Depends(maybe_principal)]

PUBLIC: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route that asks for no login."""
MAY_LOG_IN: dict[str, Any] = {"security": [{}, {"bearer": []}]}
"""`openapi_extra` of a route that a program may ask with its access token, or with what it sends."""


def _shown_once(connection: HTTPConnection) -> None:
    connection.state.shown_once = True


ShownOnce = Depends(_shown_once)
"""Of a route whose answer shows a secret: it is never kept, also not for an `Idempotency-Key`."""


def caller(connection: HTTPConnection) -> Caller:
    """Where a request comes from."""
    return Caller(address_of(connection), connection.headers.get("user-agent", "unknown"))


From = Annotated[Caller, Depends(caller)]


def version_of(
    if_match: Annotated[
        str | None, Header(description="The ETag of what is changed, as it was read.")
    ] = None,
) -> int:
    """The version that a change was made of. Raises `VersionMissing`, and `Invalid` for a text that is
    no ETag of ours."""
    if if_match is None:
        raise VersionMissing('send If-Match with the ETag of what you read, as in: If-Match: "3"')
    digits = if_match.removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise Invalid("If-Match: takes the ETag of what you read", "header.if-match")
    return int(digits)


IfMatch = Annotated[int, Depends(version_of)]


def etag(version: int) -> dict[str, str]:
    """The header that says which version a response has."""
    return {"ETag": f'"{version}"'}
