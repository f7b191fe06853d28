"""What is done to every request and response: requests that another site's page caused are refused, and
responses say what a browser may do with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
HSTS = "max-age=31536000"

KnownOrigin = Callable[[str], Awaitable[bool]]


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, console_url: str, known: KnownOrigin) -> None:
        """`known`: whether the pages of an origin may call the API."""
        self._app = app
        self._own = console_url
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = self._with_headers(send, api=scope["path"].startswith("/api/"))
        if scope["method"] in SAFE or await self._may_change(Headers(scope=scope), scope["path"]):
            await self._app(scope, receive, sending)
            return
        said = "a page of another origin may not do this with somebody's session"
        refused = problem(403, "cross-site", "Refused: the request comes from another site", said)
        await refused(scope, receive, sending)

    async def _may_change(self, headers: Headers, path: str) -> bool:
        """Whether a request that changes something comes from our own page, from a known origin's, or
        from no browser.

        A browser says where a request comes from by itself; a page cannot (Fetch Metadata,
        `Sec-Fetch-Site`).
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site == "same-origin" or (site is None and origin == self._own):
            return True
        if site is None and origin is None:  # no browser of today: nothing is sent unasked for
            return "cookie" not in headers and path.startswith("/api/")
        return path.startswith("/api/") and origin is not None and await self._known(origin)

    def _with_headers(self, send: Send, *, api: bool) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store" if api else "no-cache, private")
                if self._own.startswith("https://"):
                    headers.setdefault("Strict-Transport-Security", HSTS)
            await send(message)

        return sending
