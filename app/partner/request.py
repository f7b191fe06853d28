"""The parts of a request that every row of a feed shares: prepared once, kept by the client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from app.core.deliveries import Delivery
from app.core.errors import ConfigError
from app.core.url import Url, parse_url
from app.feeds.feed import Feed
from app.feeds.partner import Success
from app.partner.auth.kind import AuthKind, kind_of
from app.partner.body import (
    QUOTED,
    Reference,
    Render,
    Row,
    parse_text,
    renderer,
    row_of,
    text_of,
    to_json,
    unsendable,
)
from app.partner.exchange import Request, carried
from app.partner.failures import Undone
from app.partner.headers import PRINTABLE, uncarried
from app.partner.masking import feed_secrets, masked
from app.partner.problems import problems
from app.partner.signing import Sign, signer


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """What all requests of a feed share. It holds secrets, so its repr shows no fields."""

    feed: Feed
    auth: AuthKind[Any]
    method: str
    url: Url
    headers: Mapping[str, str]
    """Names in lower case."""
    deadline_seconds: float
    connect_seconds: float
    """The part of it for connecting."""
    secrets: tuple[str, ...] = ()
    render: Render | None = None
    """Renders the body from the row; `None`: the row is sent as it is."""
    row_headers: Mapping[str, Reference] = field(default_factory=dict)
    """Header name, as written → the column its value comes from."""
    sign: Sign | None = None
    opening: bytes = b""
    """The head's lines that all requests have in common; empty where a row or a signature adds to
    them.
    """
    status_url: str | None = None
    success: Success | None = None

    def redact(self, text: str, *, cut: bool = False, also: tuple[str, ...] = ()) -> str:
        """`text` with each of the feed's secrets, and of `also`, replaced: partners do echo
        requests in their answers.

        Where `text` was cut off, the start of a secret at its end goes too.
        """
        return masked(text, (*also, *self.secrets) if also else self.secrets, cut=cut)

    def request(self, delivery: Delivery) -> Request:
        """The request for one delivery, before `auth` has authorized it: the same, its key
        included, for each attempt, but for the time and signature of a feed that signs.

        Raises `Undone` for a row that no request can be made of.
        """
        headers = {**self.headers, "idempotency-key": delivery.id}
        if self.row_headers:
            headers |= self._headers_of(delivery.payload)
        body = delivery.payload.encode() if self.render is None else self.body(delivery.payload)
        if self.sign is not None:
            headers.update(self.sign(delivery.id, body.decode()))
        ready = b""
        if self.opening and carried(delivery.id):
            own = f"idempotency-key: {delivery.id}\r\ncontent-length: {len(body)}\r\n\r\n"
            ready = self.opening + own.encode("ascii")
        # A partner that can be asked is asked before a row goes a second time.
        return Request(
            self.method,
            self.url,
            headers,
            body,
            self.connect_seconds,
            resend=self.status_url is None,
            ready=ready,
        )

    def can_ask(self, delivery: Delivery) -> bool:
        """Whether the question names this row alone. Whatever normalises a URL on its way may
        decode the key first, and reads an empty part, `.` or `..` as another resource (RFC 3986,
        section 5.2.4); what follows a `;` some leave out.
        """
        path, _, query = (self.status_url or "").partition("?")
        filled = [
            part.replace("{key}", unquote(delivery.key))
            for part in path.split("/")
            if "{key}" in part
        ]
        parts = [part for each in filled for part in re.split(r"[/\\]", each)]
        if any(part.partition(";")[0] in ("", ".", "..") for part in parts):
            return False
        return bool(delivery.key) or "{key}" not in path + query

    def status_request(self, delivery: Delivery) -> Request:
        """The question whether the partner has the delivery. Only for a feed with a `status_url`."""
        headers = {name: value for name, value in self.headers.items() if name != "content-type"}
        # The key's text is percent-encoded already, part by part.
        url = (
            str(self.status_url)
            .replace("{key}", delivery.key)
            .replace("{id}", quote(delivery.id, safe=":"))
        )
        return Request("GET", parse_url(url), headers, connect_seconds=self.connect_seconds)

    def head_request(self) -> Request:
        """The question whether the partner's URL answers, which delivers nothing. Of a feed that
        signs it has no signature, and no header whose value comes from a row."""
        headers = {name: value for name, value in self.headers.items() if name != "content-type"}
        return Request("HEAD", self.url, headers, connect_seconds=self.connect_seconds)

    def body(self, payload: str) -> bytes:
        """What is sent for a row. Raises `Undone` for a row that nothing can be made of."""
        return payload.encode() if self.render is None else to_json(self.render(row_of(payload)))

    def _headers_of(self, payload: str) -> dict[str, str]:
        """The headers whose values come from the row, but for those that are NULL."""
        row = row_of(payload)
        texts = {
            name: _header_text(row, name, reference) for name, reference in self.row_headers.items()
        }
        if faults := [
            fault for name, text in texts.items() if text and (fault := self._fault(name, text))
        ]:
            raise unsendable("; ".join(faults))
        return {name.lower(): text for name, text in texts.items() if text is not None}

    def _fault(self, name: str, text: str) -> str | None:
        """Why HTTP cannot carry the text as that header's value, and what to do; `None` where it
        can.
        """
        found = uncarried(text)
        if found is None:
            return None
        column = self.row_headers[name].column
        return f'headers.{name}: column {column!r} holds {found}; {PRINTABLE}, or "${column}{QUOTED}" encodes it'


def prepare(feed: Feed) -> Prepared:
    """Prepare what all requests of `feed` share. Raises `ConfigError` where one could not be sent."""
    found = list(problems(feed))
    if found:
        raise ConfigError(found)
    partner, auth = feed.partner, kind_of(feed.partner)
    headers = _headers(feed, auth)
    row_headers = {
        name: text
        for name, value in partner.headers.items()
        if isinstance(text := parse_text(value), Reference)
    }
    return Prepared(
        feed=feed,
        auth=auth,
        method=partner.method,
        url=partner.url,
        headers=headers,
        deadline_seconds=partner.timeout.total_seconds(),
        connect_seconds=partner.connect_timeout.total_seconds(),
        secrets=feed_secrets(feed),
        render=None if feed.body is None else renderer(feed.body),
        row_headers=row_headers,
        sign=signer(partner.signing) if partner.signing else None,
        opening=b"" if row_headers or partner.signing else _opening(feed, headers),
        status_url=partner.status_url,
        success=partner.success,
    )


def _headers(feed: Feed, auth: AuthKind[Any]) -> dict[str, str]:
    """Later ones win, whatever their case: our default, the feed's, then the authentication."""
    headers = {"content-type": "application/json"}
    for name, value in feed.partner.headers.items():
        text = parse_text(value)
        if isinstance(text, str):
            headers[name.lower()] = text
    headers |= {name.lower(): value for name, value in auth.headers().items()}
    return {name: value for name, value in headers.items() if name not in auth.sets}


def _opening(feed: Feed, headers: Mapping[str, str]) -> bytes:
    """A head as `Request.head` makes it, but for the headers of one row's request."""
    try:
        head = Request("GET", feed.partner.url, headers).head()
    except Undone:
        return b""  # each row's request says so
    return feed.partner.method.encode() + head.removeprefix(b"GET").removesuffix(b"\r\n")


def _header_text(row: Row, name: str, reference: Reference) -> str | None:
    """A header's value from the row, without the blanks around it, which are no part of a header's
    value (RFC 9110, section 5.5); `None` where the column is NULL.
    """
    value = reference.of(row, f"headers.{name}")
    return None if value is None else text_of(value).strip(" ")
