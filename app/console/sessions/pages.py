"""Login, logout, and the page on which a one-time link sets a password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from app.console.dependencies import From, Given
from app.console.errors import ConsoleError, Invalid
from app.console.pages import ReadBy, go, render, safe_path
from app.console.services import Services
from app.console.sessions.service import LoggedIn

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=1000)]


@router.get("/login")
async def login_page(request: Request, who: ReadBy, next: str = "/") -> Response:  # noqa: A002 - the address says it
    """The form; on to the page that was asked for where somebody is logged in."""
    if who.principal:
        return RedirectResponse(safe_path(next), 303)
    return render(
        request, who, "sessions/login.html", {"next": safe_path(next), "problem": None, "name": ""}
    )


@router.post("/login")
async def log_in(
    request: Request,
    who: ReadBy,
    given: Given,
    by: From,
    name: Text,
    password: Text,
    next: Text = "/",  # noqa: A002 - as above
) -> Response:
    """Begin a session."""
    old = request.cookies.get(given.authentication.cookie.name)
    try:
        begun = await given.sessions.log_in(name, password, by, old)
    except ConsoleError as error:
        told = {"next": safe_path(next), "problem": str(error), "name": name}
        return render(request, who, "sessions/login.html", told, error.status)
    response = RedirectResponse(safe_path(next), 303)
    _set_cookie(response, given, begun)
    return response


@router.post("/logout")
async def log_out(who: ReadBy, given: Given) -> Response:
    """End the session."""
    await given.sessions.log_out(who.by)
    response = RedirectResponse("/login", 303)
    cookie = given.authentication.cookie
    response.delete_cookie(  # a browser takes a `__Host-` cookie, also an expired one, as Secure alone
        cookie.name, path="/", secure=cookie.secure, httponly=True, samesite="lax"
    )
    return response


@router.get("/welcome/{link}")
async def welcome_page(request: Request, who: ReadBy, link: str) -> Response:
    """The form that sets a password. The link is looked up when it is used."""
    return _secret_address(
        render(request, who, "sessions/welcome.html", {"link": link, "problem": None})
    )


@router.post("/welcome/{link}")
async def welcome(
    request: Request, who: ReadBy, given: Given, by: From, link: str, password: Text, again: Text
) -> Response:
    """Set the password, and log in with it."""
    try:
        if password != again:
            raise Invalid("the two are not the same", "again")
        user = await given.users.set_password(link, password, by.address)
        old = request.cookies.get(given.authentication.cookie.name)
        begun = await given.sessions.log_in(user.name, password, by, old)
    except ConsoleError as error:
        told = {"link": link, "problem": str(error)}
        return _secret_address(render(request, who, "sessions/welcome.html", told, error.status))
    response = go("/")
    _set_cookie(response, given, begun)
    return response


def _secret_address(response: Response) -> Response:
    """A page whose address is a secret: it is kept nowhere, and told to nobody. (`no-referrer` would
    make the `Origin` of the form `null`.)"""
    response.headers.update({"Referrer-Policy": "strict-origin", "Cache-Control": "no-store"})
    return response


def _set_cookie(response: Response, given: Services, begun: LoggedIn) -> None:
    cookie = given.authentication.cookie
    response.set_cookie(
        cookie.name,
        begun.secret,
        expires=begun.expires_at,
        path="/",
        secure=cookie.secure,
        httponly=True,
        samesite="lax",
    )
