"""What is done to every request and response: requests that another site's page caused are refused, pages
of known origins are let in (CORS), and responses say what a browser may do with them.

It stands around the whole application, so that its answers to errors have these headers too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.errors import TooLarge
from app.console.origins.normal import normal_origin
from app.console.problems import problem

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""No inline script or style, and nothing from elsewhere."""

SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HSTS = "max-age=31536000"

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
ASKS_WITH = "Authorization, Content-Type, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID"
MAY_READ = "ETag, Link, Location, Retry-After"
PREFLIGHT_LASTS = "600"
"""Seconds. What is asked after an origin was taken away is refused all the same."""

LONGEST_BODY = 1_000_000
"""Bytes of a request: a form or a few fields."""

KnownOrigin = Callable[[str], Awaitable[bool]]
Failed = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a request comes from."""

    api: bool
    origin: str | None
    """That of another site's page; `None`: of our own page, or of no page."""
    known: bool
    """Whether that origin's pages may call the API."""


class Guard:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, *, console_url: str, known: KnownOrigin, failed: Failed
    ) -> None:
        """`known`: whether the pages of an origin may call the API; `failed`: the answer to an error
        that the application did not answer."""
        self._app = app
        self._own = normal_origin(console_url)
        self._known = known
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, headers = Request(scope), Headers(scope=scope)
        asked = _Asked(scope["path"].startswith("/api/"), None, known=False)
        sending = _Sending(send, lambda: self._headers_for(asked))
        try:
            asked = await self._asked(headers, scope["path"])
            refused = self._answer(scope["method"], headers, asked)
            await (refused or self._app)(scope, _bounded(headers, receive), sending)
        except Exception as error:
            answer = await self._failed(request, error)
            if sending.begun:
                raise
            await answer(scope, receive, sending)

    async def _asked(self, headers: Headers, path: str) -> _Asked:
        api = path.startswith("/api/")
        sent = headers.getlist("origin")
        if not sent or sent == [self._own]:
            return _Asked(api, None, known=False)
        known = api and len(sent) == 1 and await self._known(sent[0])
        return _Asked(api, sent[0], known)

    def _answer(self, method: str, headers: Headers, asked: _Asked) -> Response | None:
        """The answer of a request that is not passed on."""
        if asked.api and method == "OPTIONS" and "access-control-request-method" in headers:
            return _preflight(asked)
        if method in SAFE or self._may_change(headers, asked):
            return None
        said = "a page of another origin may not do this with somebody's session"
        return problem(403, "cross-site", "Refused: the request comes from another site", said)

    def _may_change(self, headers: Headers, asked: _Asked) -> bool:
        """Whether a request that changes something comes from our own page, from a known origin's, or
        from no browser.

        A browser says where a request comes from by itself; a page cannot (Fetch Metadata,
        `Sec-Fetch-Site`). One of before 2023 says it of forms and scripts by `Origin` alone.
        """
        site = headers.get("sec-fetch-site")
        if site == "same-origin" or asked.known:
            return True
        if site is not None or asked.origin is not None:
            return False
        if "origin" in headers:  # our own
            return True
        # No browser. One that says nothing of itself would send a cookie, and no Authorization unasked.
        return asked.api and ("cookie" not in headers or "authorization" in headers)

    def _headers_for(self, asked: _Asked) -> dict[str, str]:
        headers = dict(SECURITY_HEADERS)
        headers["Cache-Control"] = "no-store" if asked.api else "no-cache, private"
        if self._own.startswith("https://"):
            headers["Strict-Transport-Security"] = HSTS
        if asked.known and asked.origin:
            headers["Access-Control-Allow-Origin"] = asked.origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = MAY_READ
        if asked.api:
            headers["Vary"] = "Origin"
        return headers


class _Sending:
    """Sends a response with the headers that it lacks."""

    def __init__(self, send: Send, headers: Callable[[], dict[str, str]]) -> None:
        self._send = send
        self._headers = headers
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers().items():
                if name == "Vary":
                    headers.add_vary_header(value)
                else:
                    headers.setdefault(name, value)
        await self._send(message)


def _bounded(headers: Headers, receive: Receive) -> Receive:
    """The request's body, as long as it is not too long. Raises `TooLarge`."""
    said = f"a request has at most {LONGEST_BODY} bytes"
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > LONGEST_BODY:
        raise TooLarge(said)
    read = 0

    async def receiving() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LONGEST_BODY:
            raise TooLarge(said)
        return message

    return receiving


def _preflight(asked: _Asked) -> Response:
    """What a browser asks before it sends another origin's request."""
    if not asked.known:
        said = "pages of this origin may not call the API: an admin can add the origin"
        return problem(403, "unknown-origin", "Refused: the origin is not known", said)
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ASKS_WITH,
            "Access-Control-Max-Age": PREFLIGHT_LASTS,
        },
    )
