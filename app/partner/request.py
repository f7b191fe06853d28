"""The parts of a request that are the same for every row of a feed: worked out once, kept by the client."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from app import VERSION
from app.errors import ConfigError, Problem
from app.feed import Feed, NoAuth
from app.models import Delivery
from app.partner.auth import auth_headers, auth_secrets, basic

LARGE_BODY = 2**20
"""Bytes; a larger body is sent in pieces, so that writing it never blocks the event loop (aiohttp's own bound)."""

_PIECE = 2**16
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_SECRET_NAME = re.compile(r"auth|cookie|key|password|secret|signature|token", re.IGNORECASE)
_RESERVED = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "idempotency-key", "transfer-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """What every request of a feed shares. It holds secrets, so it has no repr of its fields."""

    feed: Feed
    method: str
    url: httpx.URL
    """Without the credentials that `partner.url` may hold."""
    headers: Mapping[str, str]
    deadline_seconds: float
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """httpx's: the timeouts of the phases."""
    secrets: tuple[str, ...] = ()

    def redact(self, text: str, *, cut: bool = False) -> str:
        """`text` with each of the feed's secrets replaced: partners do echo requests in their answers.

        Where `text` was cut off, the start of a secret at its end goes too.
        """
        for secret in self.secrets:
            text = text.replace(secret, "[secret]")
        return _without_started(text, self.secrets) if cut else text

    def request(self, delivery: Delivery) -> httpx.Request:
        """The request for one delivery; the same one, its key included, for each attempt."""
        headers = {**self.headers, "Idempotency-Key": delivery.id}
        body = delivery.payload.encode()
        if len(body) <= LARGE_BODY:
            return httpx.Request(self.method, self.url, headers=headers, content=body, extensions=self.extensions)
        headers["Content-Length"] = str(len(body))
        return httpx.Request(self.method, self.url, headers=headers, content=_pieces(body), extensions=self.extensions)


def prepare(feed: Feed) -> Prepared:
    """Work out what every request of `feed` shares. Raises `ConfigError` where a header cannot be sent."""
    found = list(problems(feed))
    if found:
        raise ConfigError(found)
    partner, url = feed.partner, httpx.URL(str(feed.partner.url))
    connect_seconds = partner.connect_timeout.total_seconds()
    return Prepared(
        feed=feed,
        method=partner.method,
        url=url.copy_with(userinfo=b""),
        headers=_headers(feed, url),
        deadline_seconds=partner.timeout.total_seconds(),
        # `pool` bounds all of getting a connection (waiting for one, name, TCP, TLS); `connect` bounds TCP and TLS.
        extensions={"timeout": {"connect": connect_seconds, "pool": connect_seconds}},
        secrets=_secrets(feed, url),
    )


def problems(feed: Feed) -> Iterator[Problem]:
    """Every header of `feed` that HTTP cannot carry, or that is not the feed's to set. Shows no value."""
    where = f"feeds.{feed.name}.partner"
    for name, value in feed.partner.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED:
            yield Problem("feeds", f"{where}.headers", repr(name), "a header name that Rowrelay does not set itself")
        if not _VALUE.fullmatch(value):
            yield Problem("feeds", f"{where}.headers.{name}", "other characters", "printable ASCII on one line")
    for name, value in auth_headers(feed.partner.auth).items():
        if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED:
            yield Problem(
                "feeds", f"{where}.auth.header", repr(name), "a header name that Rowrelay does not set itself"
            )
        if not _VALUE.fullmatch(value):
            yield Problem("feeds", f"{where}.auth", "a secret with other characters", "printable ASCII on one line")


def _headers(feed: Feed, url: httpx.URL) -> dict[str, str]:
    """Later ones win, whatever their case: our defaults, the feed's, then the authentication."""
    headers = httpx.Headers({"Content-Type": "application/json", "User-Agent": f"rowrelay/{VERSION}"})
    # A compressed answer could grow past any bound when unpacked.
    headers["Accept-Encoding"] = "identity"
    headers.update(feed.partner.headers)
    if url.userinfo and isinstance(feed.partner.auth, NoAuth):
        headers["Authorization"] = basic(url.username, url.password)
    headers.update(auth_headers(feed.partner.auth))
    return dict(headers)


def _secrets(feed: Feed, url: httpx.URL) -> tuple[str, ...]:
    """The longest first, so that a secret within another leaves nothing of it behind."""
    secrets = {*auth_secrets(feed.partner.auth), url.password}
    secrets |= {value for name, value in feed.partner.headers.items() if _SECRET_NAME.search(name)}
    if url.userinfo:
        secrets.add(basic(url.username, url.password).removeprefix("Basic "))
    return tuple(sorted(secrets - {""}, key=len, reverse=True))


def _without_started(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        for length in range(len(secret) - 1, 0, -1):
            if text.endswith(secret[:length]):
                return text[:-length]
    return text


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
