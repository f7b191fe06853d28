"""`/api/v1/tokens`: logins of programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from app.console.dependencies import MAY_LOG_IN, PUBLIC, By, From, Given, MaybeBy, ShownOnce
from app.console.errors import NotAuthenticated
from app.console.schemas import (
    PAGE,
    Cursor,
    Id,
    Limit,
    Page,
    moment_cursor,
    read_moment_cursor,
)
from app.console.store.tables import RefreshToken
from app.console.tokens.schemas import FamilyShown, ProgramLogin, Refresh, TokensIssued
from app.console.tokens.service import Issued

router = APIRouter(prefix="/tokens", tags=["tokens"])


@router.post("", status_code=201, openapi_extra=PUBLIC, dependencies=[ShownOnce])
async def log_in(login: ProgramLogin, by: From, given: Given) -> TokensIssued:
    """Log a program in: an access token of ten minutes, and a refresh token that gives the next."""
    return _issued(given.now(), await given.tokens.log_in(login.name, login.password, by))


@router.post("/refresh", status_code=201, openapi_extra=PUBLIC, dependencies=[ShownOnce])
async def refresh(old: Refresh, by: From, given: Given) -> TokensIssued:
    """Use a refresh token. Using one twice ends the login, and the access tokens that came of it."""
    return _issued(given.now(), await given.tokens.refresh(old.refresh_token, by))


@router.post("/revoke", status_code=204, openapi_extra=MAY_LOG_IN)
async def revoke(who: MaybeBy, by: From, given: Given, token: Refresh | None = None) -> None:
    """Log a program out: the login of the refresh token that is given, else of the access token that
    asks. Its access tokens are refused from then on."""
    if token:
        await given.tokens.log_out_by_refresh(token.refresh_token, by)
    elif who:
        await given.tokens.log_out(who)
    else:
        raise NotAuthenticated("send the access token, or the refresh token in the body")


@router.get("")
async def list_families(
    by: By,
    given: Given,
    all: Annotated[bool, Query(description="Everybody's: for admins.")] = False,  # noqa: A002 - the address says it
    user: Annotated[Id | None, Query(description="Those of this user: for admins.")] = None,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[FamilyShown]:
    """Programs that are logged in, the last refreshed first: one's own, unless asked for others'."""
    found, following = await given.tokens.list(
        by, read_moment_cursor(after), limit, of_all=all, user_id=user
    )
    own = await given.tokens.family_of(by)
    return Page(
        items=[_shown(one, own) for one in found],
        next=moment_cursor(following),
    )


@router.delete("/{family}", status_code=204)
async def end_family(family: Id, by: By, given: Given) -> None:
    """End a program's login: one's own, or as an admin anybody's."""
    await given.tokens.end(by, family)


def _issued(now: datetime, issued: Issued) -> TokensIssued:
    return TokensIssued(
        access_token=issued.access,
        expires_in=max(0, int((issued.access_expires_at - now).total_seconds())),
        refresh_token=issued.refresh,
        refresh_expires_at=issued.refresh_expires_at,
        family=issued.family,
    )


def _shown(token: RefreshToken, own: str | None) -> FamilyShown:
    return FamilyShown(
        family=token.family,
        user_id=token.user_id,
        user=token.user.name,
        begun_at=token.begun_at,
        refreshed_at=token.created_at,
        expires_at=token.expires_at,
        address=token.address,
        user_agent=token.user_agent,
        current=token.family == own,
    )
