"""Stands before the API's routes, and answers a POST whose `Idempotency-Key` was seen before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.errors import NotAuthenticated, StoreUnavailable
from app.console.idempotency.service import Answer, Asked, Idempotency
from app.console.security.roles import Principal

log = structlog.get_logger()

LONGEST_ANSWER = 200_000
"""Bytes of an answer that is kept."""
JSON = "application/json"
KEPT_HEADERS = ("content-type", "etag", "location")

Who = Callable[[HTTPConnection], Awaitable[Principal]]


class Idempotent:
    """ASGI middleware. Nobody's keys are looked at where nobody is logged in: the route answers."""

    def __init__(self, app: ASGIApp, *, requests: Idempotency, who: Who) -> None:
        self._app = app
        self._requests = requests
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as before, or pass on and keep the answer. Raises `Invalid`, `Conflict`."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        key = headers.get("idempotency-key")
        if key is None or scope["method"] != "POST" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        try:
            by = await self._who(HTTPConnection(scope))
        except NotAuthenticated:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        asked = self._requests.asked(by, key, scope["path"], _all_of(scope, headers, body))
        if before := await self._requests.begin(asked):
            await _again(before)(scope, receive, send)
            return
        await self._do(asked, scope, _replayed(body, receive), send)

    async def _do(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        answered = _Answered(send)
        try:
            await self._app(scope, receive, answered.note)
        except Exception:
            await self._end(asked, Answer(500, {}, None))
            raise
        await self._end(asked, answered.to_keep(shows_secret=state.get("shown_once", False)))
        await answered.let_go()

    async def _end(self, asked: Asked, answer: Answer) -> None:
        """What was done was done: that it cannot be kept is no reason to tell something else."""
        try:
            await self._requests.end(asked, answer)
        except StoreUnavailable as error:
            log.warning("idempotent_answer_not_kept", error=str(error))


class _Answered:
    """The messages of a response: held back until it is kept; let go at once where it will not be, as
    an export of any length."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._start: Message = {"status": 500, "headers": []}
        self._body = bytearray()
        self._kept = True

    async def note(self, message: Message) -> None:
        """As the application sends it."""
        self._held.append(message)
        if message["type"] == "http.response.start":
            self._start = message
            kind = MutableHeaders(scope=message).get("content-type", JSON)
            self._kept = kind.startswith(JSON)
        elif self._kept:
            self._body += message.get("body", b"")
            self._kept = len(self._body) <= LONGEST_ANSWER
        if not self._kept:
            await self.let_go()

    async def let_go(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def to_keep(self, *, shows_secret: bool) -> Answer:
        """The response; without its body where that is not to be kept."""
        headers = MutableHeaders(scope=self._start)
        kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        text = self._body.decode() if self._kept and not shows_secret else None
        return Answer(self._start["status"], kept, text)


def _again(before: Answer) -> Response:
    return Response(before.body, before.status, before.headers | {"Idempotent-Replayed": "true"})


def _all_of(scope: Scope, headers: Headers, body: bytes) -> bytes:
    """All that makes it the same request."""
    kind = headers.get("content-type", "")
    return orjson.dumps([scope["path"], scope["query_string"].decode("latin-1"), kind]) + body


async def _read(receive: Receive) -> bytes:
    """The whole body; how long it may be, the guard says."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
