"""OAuth2 access tokens by client credentials: one a process for each set of credentials, renewed before it expires.

oauthlib makes the request's body and reads the answer (RFC 6749, sections 4.4 and 5); the request goes over the feed's
own transport, so the same bounds, certificates and table of failures hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote_plus

import orjson
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from oauthlib.oauth2.rfc6749.errors import InvalidClientError

from app.endpoint import OAuth2Auth
from app.models import Ruling
from app.partner.auth import basic
from app.partner.content import Unreadable, unwrapped
from app.partner.exchange import Reply, Request
from app.partner.failures import Undone

EARLY_SECONDS = 60.0
"""How long before it expires a token is renewed; for a token of less than 10 minutes, a tenth of its life."""

DEFAULT_LIFE_SECONDS = 300.0
"""For an answer that does not say how long its token lives."""

PATIENCE_SECONDS = 1.0
"""After a failure the token endpoint is left alone for this long, whoever asks."""

_NOTHING_TO_SEND_WITH = "TokenError: no access token to send the row with"

ANSWER_LIMIT = 2**16
"""Bytes of an answer that are read, before and after unpacking."""

Exchange = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """An access token, and until when it serves, by the process's monotonic clock."""

    text: str
    renew_at: float
    expires_at: float


class Tokens:
    """The access token of one set of credentials, shared by all who send with them. Used on one event loop."""

    def __init__(self, auth: OAuth2Auth, exchange: Exchange, clock: Callable[[], float] = time.monotonic) -> None:
        """`exchange` sends a request to the token endpoint, bounded, and raises `Undone`."""
        self._auth = auth
        self._exchange = exchange
        self._clock = clock
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None
        self._failure: Undone | None = None
        self._quiet_until = 0.0
        self.known: tuple[str, ...] = ()
        """The last tokens, also one that was dropped: texts that no record may hold."""

    async def get(self) -> str:
        """A token that is valid now. One that is about to expire is still given while another is fetched.

        Raises `Undone` where there is none to be had: `DENIED` when the endpoint says `invalid_client`, else `FAILED`.
        """
        now = self._clock()
        token = self._token
        if token is not None and now < token.renew_at:
            return token.text
        if token is not None and now < token.expires_at:
            if now >= self._quiet_until:
                self._renewing()
            return token.text
        if self._failure is not None and now < self._quiet_until:
            raise Undone(str(self._failure), self._failure.ruling)
        try:
            # Shielded: one attempt that is cancelled must not fail all the others that wait.
            return (await asyncio.shield(self._renewing())).text
        except Undone as failure:
            raise Undone(str(failure), failure.ruling) from failure

    def drop(self, text: str) -> None:
        """Forget this token, which the partner refused. One fetched since stays."""
        if self._token is not None and self._token.text == text:
            self._token = None

    async def close(self) -> None:
        """Give up a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _renewing(self) -> asyncio.Task[Token]:
        """The renewal under way, begun if there is none: one at a time."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(self._renewed)
        return self._renewal

    def _renewed(self, renewal: asyncio.Task[Token]) -> None:
        self._renewal = None
        if renewal.cancelled():
            return
        failure = renewal.exception()
        self._failure = failure if isinstance(failure, Undone) else None
        if failure is not None:
            self._quiet_until = self._clock() + PATIENCE_SECONDS

    async def _renew(self) -> Token:
        asked = self._clock()
        try:
            reply = await self._exchange(token_request(self._auth))
        except Undone as failure:
            raise Undone(f"{_NOTHING_TO_SEND_WITH}: {failure}", Ruling.FAILED) from failure
        self._token = _token(reply, asked)
        self.known = (self._token.text, *self.known[:1])
        return self._token


def token_request(auth: OAuth2Auth) -> Request:
    """The request for a token (RFC 6749, sections 2.3.1 and 4.4.2)."""
    secret = auth.client_secret.get_secret_value()
    headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
    extra = {"audience": auth.audience} if auth.audience else {}
    if auth.client_auth == "basic":
        headers["authorization"] = basic(quote_plus(auth.client_id), quote_plus(secret))
    else:
        extra |= {"client_secret": secret}
    client = BackendApplicationClient(auth.client_id)
    body = client.prepare_request_body(scope=auth.scope, include_client_id=auth.client_auth == "body", **extra)
    return Request("POST", auth.token_url, headers, body.encode())


def _token(reply: Reply, asked: float) -> Token:
    """The token in an answer. Raises `Undone` for an answer that has none."""
    try:
        found = _parsed(unwrapped(reply.headers, reply.body, ANSWER_LIMIT))
        text, life = str(found["access_token"]), float(str(found.get("expires_in") or DEFAULT_LIFE_SECONDS))
    except InvalidClientError as error:
        raise Undone(_why(reply, error), Ruling.DENIED) from error
    except (
        OAuth2Error,
        Unreadable,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # oauthlib takes members for text unseen
        raise Undone(_why(reply, error), Ruling.FAILED) from error
    if not text.isascii() or not text.isprintable():
        raise Undone(_why(reply, ValueError("a token that no header can carry")), Ruling.FAILED)
    return Token(text, asked + life - min(EARLY_SECONDS, life / 10), asked + life)


def _parsed(body: bytes) -> dict[str, object]:
    """The members of an answer that is a JSON object. Raises oauthlib's error for one that says what is wrong."""
    if not isinstance(orjson.loads(body), dict):
        raise TypeError("the answer is no JSON object")
    found: dict[str, object] = BackendApplicationClient("").parse_request_body_response(body.decode())
    return found


def _why(reply: Reply, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{_NOTHING_TO_SEND_WITH}: the token endpoint answered {reply.status}: {text}"
