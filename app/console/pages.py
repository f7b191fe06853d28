"""The web pages: Jinja templates, in the reader's language, with what each page needs to know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote, urlsplit

from fastapi import Depends, Request
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from app import VERSION
from app.console.dependencies import services
from app.console.errors import NotAuthenticated
from app.console.localized import Localized
from app.console.problems import ProblemResponse
from app.console.security.roles import LEAST, Permission, Principal
from app.console.translations import LANGUAGES, sentences, translations
from app.core.errors import RowrelayError

HERE = Path(__file__).parent
NOTICE, LONGEST_NOTICE = "rowrelay-notice", 2000
"""The cookie with what the next page says once, and how many characters of it."""


def _loader() -> ChoiceLoader:
    """A subject's templates by its name (`users/list.html`), and those that all share."""
    folders = {path.parent.name: FileSystemLoader(path) for path in HERE.glob("*/templates")}
    return ChoiceLoader([PrefixLoader(folders), FileSystemLoader(HERE / "templates")])


def _environment(language: str) -> Environment:
    made = Environment(
        loader=_loader(),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined] # by the extension
    return made


_ENVIRONMENTS: dict[str, Environment] = {}


def environment(language: str) -> Environment:
    """The templates in that language; in English where there is none of it."""
    language = language if language in LANGUAGES else "en"
    if language not in _ENVIRONMENTS:
        _ENVIRONMENTS[language] = _environment(language)
    return _ENVIRONMENTS[language]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a page, and how."""

    principal: Principal | None
    """`None`: nobody is logged in."""
    language: str

    @property
    def by(self) -> Principal:
        """Who is logged in. Raises `NotAuthenticated`: the page becomes that of the login."""
        if self.principal is None:
            raise NotAuthenticated("log in first")
        return self.principal

    def gettext(self, message: str, **values: object) -> str:
        """What a page says from Python, in the reader's language. `values`: for `%(name)s` in it."""
        said = translations(self.language).gettext(message)
        return said % values if values else said

    def say(self, text: object) -> str:
        """What a service or the ledger says in English, in the reader's language; what is none of our
        sentences, as of a partner or a source, as it is. Empty for `None`."""
        return "" if text is None else sentences(self.language).say(str(text))

    def may(self, permission: str) -> bool:
        """Whether it is permitted to them."""
        return self.principal is not None and self.principal.may(Permission[permission])

    def why_not(self, permission: str) -> str:
        """Why it is not, for a control that is disabled; empty where it is."""
        if self.may(permission):
            return ""
        wanted = Permission[permission]
        return self.gettext(
            "to %(permission)s takes the role %(role)s; yours is %(yours)s",
            permission=self.gettext(wanted.value),
            role=self.gettext(LEAST[wanted].value),
            yours=self.gettext(self.by.role.value),
        )

    def least(self, permission: str) -> str:
        """The least role that may."""
        return self.gettext(LEAST[Permission[permission]].value)


async def reader(request: Request) -> Reader:
    """Who reads the page; nobody, where nobody is logged in."""
    try:
        found = await services(request).authentication.of_browser(request)
    except NotAuthenticated:
        return _nobody(request)
    return Reader(found, found.language)


def _nobody(request: Request) -> Reader:
    asked = request.headers.get("accept-language", "")
    return Reader(None, "vi" if asked.lower().startswith("vi") else "en")


ReadBy = Annotated[Reader, Depends(reader)]


def render(
    request: Request,
    who: Reader,
    template: str,
    told: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Response:
    """The page of a template. Every template has: `request`, `reader`, `local` (dates and numbers),
    `here` (path and query), `now`, `theme`, `version`, `notice` (said once); and what it is told."""
    zone = who.principal.time_zone if who.principal else "UTC"
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    page = environment(who.language).get_template(template)
    notice = unquote(request.cookies.get(NOTICE, ""))[:LONGEST_NOTICE]
    html = page.render(
        request=request,
        reader=who,
        local=Localized(who.language, zone),
        here=here,
        now=services(request).now(),
        theme=who.principal.theme if who.principal else "system",
        version=VERSION,
        notice=notice,
        **(told or {}),
    )
    response = HTMLResponse(html, status)
    if notice:
        response.delete_cookie(NOTICE, secure=_secure(request), httponly=True, samesite="lax")
    return response


def _secure(connection: HTTPConnection) -> bool:
    """Whether cookies are for TLS alone, as the session's is."""
    return services(connection).authentication.cookie.secure


def fragment(
    who: Reader, template: str, now: datetime, told: Mapping[str, Any] | None = None
) -> str:
    """A part of a page, as its template makes it beyond any request: it has `reader`, `local` and
    `now`, and what it is told."""
    zone = who.principal.time_zone if who.principal else "UTC"
    part = environment(who.language).get_template(template)
    return part.render(reader=who, local=Localized(who.language, zone), now=now, **(told or {}))


class _Noticed(RedirectResponse):
    """To a page that says something once."""

    def __init__(self, path: str, notice: str) -> None:
        super().__init__(path, 303)
        self._notice = notice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the server calls it, and knows whether it is reached by TLS."""
        secure, said = _secure(HTTPConnection(scope)), quote(self._notice)
        self.set_cookie(NOTICE, said, max_age=30, secure=secure, httponly=True, samesite="lax")
        await super().__call__(scope, receive, send)


def go(path: str, notice: str | None = None) -> RedirectResponse:
    """After a form was taken: on to that page, which says `notice` once."""
    return _Noticed(path, notice) if notice else RedirectResponse(path, 303)


def safe_path(text: str | None, otherwise: str = "/") -> str:
    """A path of this console, to go to after a login: never another site."""
    if not text:
        return otherwise
    try:
        parts = urlsplit(text)
    except ValueError:  # as of `//[`
        return otherwise
    if parts.scheme or parts.netloc or not text.startswith("/") or text.startswith(("//", "/\\")):
        return otherwise
    return text if text.isprintable() and "\\" not in text else otherwise


def to_login(request: Request) -> Response:
    """To the login, and from there on to the page that was asked for."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET":  # a form whose session ended: its address is no page
        here = "/"
    return RedirectResponse(f"/login?next={quote(here)}", 303)


async def error_page(request: Request, found: ProblemResponse) -> Response:
    """A problem as a page, also while nobody can be told who reads it."""
    try:
        who = await reader(request)
    except RowrelayError:
        who = _nobody(request)
    said = found.problem
    told = {"title": who.say(said.title), "said": who.say(said.detail)}
    page = render(request, who, "error.html", told, said.status)
    for name in ("Allow", "Retry-After"):
        if name in found.headers:
            page.headers[name] = found.headers[name]
    return page
