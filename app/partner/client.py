"""The HTTP client for partners: one attempt at a time, and no exception for anything the other side
does.

What an HTTP client usually adds must not happen here: cookies kept, redirects followed, proxies and
`~/.netrc` taken from the environment, a request sent again by itself (see `transport` and
`exchange`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Self

from app.core.attempts import RESPONSE_LIMIT, Answer, Ruling
from app.core.clock import utc_now
from app.core.deliveries import Delivery
from app.core.errors import ConfigError, Problem
from app.feeds.auth import Auth
from app.feeds.feed import Feed
from app.feeds.partner import Tls
from app.partner.auth.kind import Authorizer, Outside
from app.partner.content import Unreadable, unwrapped
from app.partner.exchange import Reply, Request, exchange
from app.partner.failures import Undone
from app.partner.incoming import HeadIncoming
from app.partner.request import Prepared, prepare
from app.partner.retry_after import WAIT_HEADERS
from app.partner.route import Route
from app.partner.success import SUCCESS_LIMIT, shortfall
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles
from app.partner.transport import Transport, tls_context

ERROR_LIMIT = 300
"""Characters kept of a failure."""

KEPT_HEADERS = ("content-type", *WAIT_HEADERS)
"""What an answer that is no success keeps of its headers. Others may hold secrets (`Set-Cookie`),
and nothing reads them. A success keeps none."""


class PartnerClient:
    """Sends deliveries to their partners. One a process, used on one event loop; `close` it there.

    Takes the feeds it will serve: connections are bounded by the sum of their concurrency. Opens
    nothing until the first `send`. Raises `ConfigError` for a feed whose requests cannot be sent.
    """

    def __init__(
        self,
        feeds: Iterable[Feed],
        throttles: Throttles | None = None,
        *,
        shown: tuple[str, ...] | None = None,
    ) -> None:
        """`throttles`: those of token endpoints too, over all workers. `shown`: the headers that
        each answer keeps, for somebody to look at; without them, those that decide.
        """
        self._shown = shown
        self._feeds = tuple(feeds)
        self._throttles = throttles
        self._transports: dict[Tls | None, Transport] = {}
        self._authorizers: dict[tuple[Auth, Tls | None], Authorizer] = {}
        self._routes = {id(feed): self._open_route(feed) for feed in self._feeds}
        """Keyed by the feed object: a batch begun with one version of a feed ends with that version
        (`serve`).
        """

    def serve(self, feeds: Iterable[Feed]) -> None:
        """Serve these feeds from now on. Requests under way end with the feed they began with.

        Files of certificates are read anew, for connections yet to be opened. Raises `ConfigError`,
        and then nothing has changed, for a feed whose requests cannot be sent.
        """
        before, self._feeds = self._feeds, tuple(feeds)
        ways = {feed.partner.tls for feed in self._feeds}
        try:
            contexts = {tls: tls_context(tls) for tls in ways}
            routes = {
                id(feed): self._routes.get(id(feed)) or self._open_route(feed)
                for feed in self._feeds
            }
        except (OSError, ConfigError) as error:
            self._feeds = before
            if isinstance(error, ConfigError):
                raise
            found = error.strerror or "a file that is none"
            raise ConfigError(
                [Problem("feeds", "partner.tls", found, "readable PEM files")]
            ) from error
        self._routes = routes
        self._let_go(ways)
        for tls, transport in self._transports.items():
            transport.renew(contexts[tls], self._connections(tls))

    def _let_go(self, ways: set[Tls | None]) -> None:
        """Drop what no feed needs. A request under way keeps what it uses; idle connections close
        by themselves.
        """
        credentials = {(feed.partner.auth, feed.partner.tls) for feed in self._feeds}
        self._transports = {
            tls: transport for tls, transport in self._transports.items() if tls in ways
        }
        self._authorizers = {
            known: one for known, one in self._authorizers.items() if known in credentials
        }

    def _connections(self, tls: Tls | None, *more: Feed) -> int:
        """The connections allowed at once: the sum of the feeds' concurrency."""
        return sum(
            feed.partner.concurrency for feed in (*self._feeds, *more) if feed.partner.tls == tls
        )

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        """Make one attempt. The request to the partner has `feed.partner.timeout` until the last
        byte of the answer.

        Returns the answer: a status, or the kind of failure. A success whose body breaks off is a
        failure, since the partner may not have finished. Cancelling is passed on; nothing the
        network or the partner does raises.

        Before the request there may be one for an access token, and where the delivery is in doubt
        and the feed has a `status_url`, one to that: then nothing is sent unless it says 404. With
        OAuth2 an answer of 401 or 403 leads to one more request, with a new token. Each of these
        has the same time.
        """
        route = self._routes.get(id(feed))
        if route is None:
            route = self._routes[id(feed)] = self._open_route(feed)
        at, started = utc_now(), time.perf_counter()
        try:
            if route.plain:
                prepared = route.prepared
                reply = await exchange(
                    route.transport, prepared.request(delivery), prepared.deadline_seconds
                )
            else:
                reply = await route.attempt(delivery)
        except Undone as failure:
            text = route.redact(str(failure))[:ERROR_LIMIT]
            headers = {} if failure.wait is None else {"retry-after": f"{failure.wait:.3f}"}
            return Answer(
                at, _since_ms(started), failure.status, headers, error=text, ruling=failure.ruling
            )
        kept = self._shown
        if kept is None:
            kept = () if route.plain and 200 <= reply.status <= 299 else KEPT_HEADERS
        return _answer(route, reply, at, _since_ms(started), kept)

    async def head(self, feed: Feed) -> Reply:
        """Ask the partner's URL with HEAD, under the feed's headers and authentication: nothing is
        delivered.

        Raises `Undone`, whose text holds none of the feed's secrets.
        """
        route = self._routes.get(id(feed)) or self._open_route(feed)
        transport = Transport(feed.partner.tls, 1, HeadIncoming)
        try:
            return await route.head(transport)
        except Undone as failure:
            raise Undone(
                route.redact(str(failure))[:ERROR_LIMIT], failure.ruling, failure.status
            ) from failure
        finally:
            await transport.close()

    def forget_token(self, feed: str) -> None:
        """Begin with a new access token, where the feed has one."""
        for route in self._routes.values():
            if route.prepared.feed.name == feed and route.authorizer:
                route.authorizer.forget()

    async def close(self) -> None:
        """Close every connection. A request still in flight fails with an answer."""
        for authorizer in self._authorizers.values():
            await authorizer.close()
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _open_route(self, feed: Feed) -> Route:
        prepared, tls = prepare(feed), feed.partner.tls
        if tls not in self._transports:
            self._transports[tls] = Transport(tls, self._connections(tls, feed))
        authorizer = self._authorizer(prepared, tls)
        plain = authorizer is None and prepared.status_url is None and prepared.success is None
        return Route(prepared, self._transports[tls], authorizer, plain)

    def _authorizer(self, prepared: Prepared, tls: Tls | None) -> Authorizer | None:
        """Authorizes the feed's requests; shared by all feeds with the same credentials."""
        known = self._authorizers.get((prepared.feed.partner.auth, tls))
        made = known or prepared.auth.authorizer(self._outside(prepared, self._transports[tls]))
        if made:
            self._authorizers[prepared.feed.partner.auth, tls] = made
        return made

    def _outside(self, prepared: Prepared, transport: Transport) -> Outside:
        def ask(request: Request, /, *, limit: int) -> Awaitable[Reply]:
            return exchange(transport, request, prepared.deadline_seconds, limit)

        return Outside(
            ask,
            partial(_named_throttle, self._throttles, prepared.feed) if self._throttles else None,
        )


def _named_throttle(throttles: Throttles, feed: Feed, name: str) -> Awaitable[EndpointThrottle]:
    """The throttle of a server that is no partner, such as a token endpoint, by the limits of a
    feed that uses it.
    """
    return throttles.of(feed.model_copy(update={"name": name}))


def _answer(
    route: Route, reply: Reply, at: datetime, duration_ms: int, kept: tuple[str, ...]
) -> Answer:
    """The part of a reply that is kept: bounded, secrets masked, and checked against the feed's
    `success`.
    """
    redact, found = route.redact, reply.headers
    headers = {name: redact(value) for name in kept if (value := found.joined(name)) is not None}
    body, packed = _content(reply)
    text = _text(redact, body)
    if route.plain:
        return Answer(at, duration_ms, reply.status, headers, text, note=reply.note)
    success = route.prepared.success
    if success is None or reply.settled or not 200 <= reply.status <= 299:
        return Answer(at, duration_ms, reply.status, headers, text, note=reply.note)
    lack = (packed and success.check and f"success check: {packed}") or shortfall(
        success, reply.status, body
    )
    if lack is None:
        return Answer(at, duration_ms, reply.status, headers, text, note=reply.note)
    ruling = Ruling.REFUSED if success.otherwise == "dead" else Ruling.FAILED
    error = redact(lack)[:ERROR_LIMIT]
    return Answer(at, duration_ms, reply.status, headers, text, error, ruling, reply.note)


def _content(reply: Reply) -> tuple[bytes, str | None]:
    """The body, unpacked; or as received, with why it could not be."""
    if not reply.body:
        return reply.body, None
    try:
        return unwrapped(reply.headers, reply.body, SUCCESS_LIMIT), None
    except Unreadable as error:
        return reply.body, str(error)


def _text(redact: Callable[..., str], body: bytes) -> str:
    """The body as text, secrets masked, at most `RESPONSE_LIMIT` bytes in UTF-8."""
    if not body:
        return ""
    kept = body[:RESPONSE_LIMIT]
    text = redact(kept.decode("utf-8", "replace"), cut=len(kept) == RESPONSE_LIMIT)
    if len(text) <= RESPONSE_LIMIT and text.isascii():
        return text
    return text.encode()[:RESPONSE_LIMIT].decode("utf-8", "ignore")


def _since_ms(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
