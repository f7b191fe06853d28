"""OAuth2 access tokens by client credentials: one a process for each set of credentials, renewed
before it expires.

oauthlib makes the request's body (RFC 6749, section 4.4). The answer is read here: servers send
members of other types than section 5 has, and a token that can be used is used. The request goes
over the feed's own transport, so the same bounds, certificates and table of failures hold.

Whatever keeps us from a token is no fault of a row: nothing is sent, and no attempt is spent. What
the token endpoint asks us to wait holds for all workers, by a throttle of its own
(`app/partner/throttle`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from urllib.parse import parse_qsl, quote_plus

import orjson
from oauthlib.oauth2 import BackendApplicationClient

from app.core.attempts import Ruling
from app.core.backoff import doubled
from app.core.clock import utc_now
from app.core.shown import one_line
from app.feeds.auth import OAuth2Auth
from app.partner.auth.basic import basic
from app.partner.content import Unreadable, unwrapped
from app.partner.exchange import Reply, Request
from app.partner.failures import Undone
from app.partner.retry_after import WAIT_HEADERS, wait_asked
from app.partner.throttle.throttle import EndpointThrottle

EARLY_SECONDS = 60.0
"""How long before it expires a token is renewed; for a token of less than 10 minutes, a tenth of
its life.
"""

DEFAULT_LIFE_SECONDS = 300.0
"""For an answer that does not say how long its token lives."""

LIFE_LIMIT_SECONDS = 86400.0

PATIENCE, LONGEST_PATIENCE = timedelta(seconds=1), timedelta(seconds=30)
"""After a failure the token endpoint is left alone for this long, whoever asks; twice as long after
each one more.
"""

RENEWED_AGAIN_SECONDS = 60.0
"""How often a 403 makes us ask for a new token: it may be the row's fault, and such rows can be
many.
"""

_OUR_FAULT = frozenset({"invalid_client", "unauthorized_client", "invalid_scope"})
"""What a token endpoint says of our settings (RFC 6749, section 5.2): no time mends it."""
_TOO_FAST = frozenset({429, 503})

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
    """The access token of one set of credentials, shared by all who send with them. Used on one
    event loop.
    """

    def __init__(
        self,
        auth: OAuth2Auth,
        exchange: Exchange,
        clock: Callable[[], float] = time.monotonic,
        throttle: Callable[[], Awaitable[EndpointThrottle]] | None = None,
    ) -> None:
        """`exchange` sends a request to the token endpoint, bounded, and raises `Undone`.
        `throttle` gives the endpoint's, which all workers share; without it this process is alone.
        """
        self._auth = auth
        self._exchange = exchange
        self._clock = clock
        self._throttle = throttle
        self._token: Token | None = None
        self._renewal: asyncio.Task[Token] | None = None
        self._failure: Undone | None = None
        self._failures = 0
        self._quiet_until = 0.0
        self._renewed_for_403_at = -RENEWED_AGAIN_SECONDS
        self.known: tuple[str, ...] = ()
        """The last tokens, also one that was dropped: texts that no record may hold."""

    async def get(self) -> str:
        """A token that is valid now. One that is about to expire is still given while another is
        fetched.

        Raises `Undone` where there is none to be had: `DENIED` when the endpoint refuses our
        settings, else `OURS`, with how long to wait.
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
            raise Undone(str(self._failure), self._failure.ruling, wait=self._quiet_until - now)
        try:
            # Shielded: one attempt that is cancelled must not fail all the others that wait.
            return (await asyncio.shield(self._renewing())).text
        except Undone as failure:
            raise Undone(str(failure), failure.ruling, wait=failure.wait) from failure

    def refused(self, text: str, status: int) -> bool:
        """The partner answered 401 or 403 to this token. Whether a new one is worth trying: then it
        is forgotten.
        """
        if status == 403:
            now = self._clock()
            if now < self._renewed_for_403_at + RENEWED_AGAIN_SECONDS:
                return False
            self._renewed_for_403_at = now
        self.drop(text)
        return True

    def forget(self) -> None:
        """Begin with a new token: an operator has mended something."""
        self._token, self._failure = None, None
        self._renewed_for_403_at = -RENEWED_AGAIN_SECONDS

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
        self._failures = self._failures + 1 if failure else 0
        if self._failure is not None:
            patience = doubled(PATIENCE, self._failures - 1, LONGEST_PATIENCE).total_seconds()
            self._failure.wait = max(self._failure.wait or 0.0, patience)
            self._quiet_until = self._clock() + self._failure.wait

    async def _renew(self) -> Token:
        asked = self._clock()
        throttle = await self._throttle() if self._throttle else None
        if throttle and (held := throttle.held_for()) > 0:
            raise _no_token("the token endpoint asked us to wait", wait=held)
        try:
            reply = await self._exchange(token_request(self._auth))
        except Undone as failure:
            raise _no_token(str(failure)) from failure
        if not 200 <= reply.status <= 299 and (wait := _asked(reply)):
            if throttle:
                throttle.hold(utc_now() + wait)
            raise _no_token(
                f"the token endpoint answered {reply.status}", wait=wait.total_seconds()
            )
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
    body = client.prepare_request_body(
        scope=auth.scope, include_client_id=auth.client_auth == "body", **extra
    )
    return Request("POST", auth.token_url, headers, body.encode())


def _no_token(why: str, ruling: Ruling = Ruling.OURS, *, wait: float | None = None) -> Undone:
    return Undone(f"{_NOTHING_TO_SEND_WITH}: {one_line(why)}", ruling, wait=wait)


def _asked(reply: Reply) -> timedelta | None:
    """How long the token endpoint asks us to wait."""
    headers = {
        name: value for name in WAIT_HEADERS if (value := reply.headers.joined(name)) is not None
    }
    body = reply.body.decode("utf-8", "replace")
    return wait_asked(headers, body, utc_now(), too_fast=reply.status in _TOO_FAST)


def _token(reply: Reply, asked: float) -> Token:
    """The token in an answer. Raises `Undone` for an answer that has none."""
    answered = f"the token endpoint answered {reply.status}"
    try:
        found = _members(unwrapped(reply.headers, reply.body, ANSWER_LIMIT))
    except (Unreadable, ValueError) as error:
        raise _no_token(f"{answered}: {error}") from error
    text = found.get("access_token")
    if not 200 <= reply.status <= 299 or not isinstance(text, str) or not text.strip():
        kind, more = (
            str(found.get("error") or "missing_token"),
            str(found.get("error_description") or ""),
        )
        ruling = Ruling.DENIED if kind in _OUR_FAULT else Ruling.OURS
        raise _no_token(f"{answered}: ({kind[:100]}) {more[:200]}", ruling)
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _no_token(f"{answered}: a token that no header can carry")
    life = _life(found.get("expires_in"))
    return Token(text, asked + life - min(EARLY_SECONDS, life / 10), asked + life)


def _members(body: bytes) -> Mapping[str, object]:
    """The members of an answer: a JSON object, or a form, as older servers answer. Raises
    `ValueError`.
    """
    if body.lstrip()[:1] not in (b"{", b"[") and b"access_token=" in body:
        return dict(parse_qsl(body.decode("utf-8", "replace").strip()))
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")  # noqa: TRY004  what came is at fault
    return found


def _life(value: object) -> float:
    """`expires_in` in seconds: a number, or a text that is one. For anything else a life that is
    not known.
    """
    try:
        life = float(str(value))
    except ValueError:
        return DEFAULT_LIFE_SECONDS
    return min(life, LIFE_LIMIT_SECONDS) if life > 0 and isfinite(life) else DEFAULT_LIFE_SECONDS
