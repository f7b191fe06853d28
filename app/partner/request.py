"""The parts of a request that are the same for every row of a feed: worked out once, kept by the client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from app.endpoint import NoAuth, OAuth2Auth, Success
from app.errors import ConfigError
from app.feed import Feed
from app.models import Delivery
from app.partner.auth import auth_headers, auth_secrets, basic
from app.partner.body import Reference, Render, Row, cell, parse_text, renderer, row_of, to_json, unsendable
from app.partner.exchange import Request
from app.partner.problems import SECRET_NAME, header_value, problems
from app.partner.signing import Sign, signer
from app.url import Url, parse_url


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """What every request of a feed shares. It holds secrets, so it has no repr of its fields."""

    feed: Feed
    method: str
    url: Url
    headers: Mapping[str, str]
    """Names in lower case."""
    deadline_seconds: float
    connect_seconds: float
    """Of that, getting a connection."""
    secrets: tuple[str, ...] = ()
    render: Render | None = None
    """Makes what is sent in place of the row; `None`: the row goes as it is."""
    row_headers: Mapping[str, str] = field(default_factory=dict)
    """Header name → the column its value comes from."""
    sign: Sign | None = None
    status_url: str | None = None
    success: Success | None = None

    def redact(self, text: str, *, cut: bool = False, also: tuple[str, ...] = ()) -> str:
        """`text` with each of the feed's secrets, and of `also`, replaced: partners do echo requests in their answers.

        Where `text` was cut off, the start of a secret at its end goes too.
        """
        secrets = (*also, *self.secrets) if also else self.secrets
        for secret in secrets:
            text = text.replace(secret, "[secret]")
        return _without_started(text, secrets) if cut else text

    def request(self, delivery: Delivery, token: str | None = None) -> Request:
        """The request for one delivery, with an access token where there is one: the same, its key included, for each
        attempt, but for the time and signature of a feed that signs.

        Raises `Undone` for a row that no request can be made of.
        """
        headers = {**self.headers, "idempotency-key": delivery.id}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if self.row_headers:
            headers |= self._headers_of(delivery.payload)
        body = delivery.payload.encode() if self.render is None else self.body(delivery.payload)
        if self.sign is not None:
            headers.update(self.sign(delivery.id, body.decode()))
        # A partner that can be asked is asked before a row goes a second time.
        return Request(self.method, self.url, headers, body, self.connect_seconds, resend=self.status_url is None)

    def can_ask(self, delivery: Delivery) -> bool:
        """Whether the question names this row alone. A key that is empty, `.` or `..` would be read as another resource
        by whatever normalises a URL on its way (RFC 3986, section 5.2.4), and an escaped `.` means the same.
        """
        path, _, query = (self.status_url or "").partition("?")
        parts = [part for part in path.split("/") if "{key}" in part]
        if any(part.replace("{key}", delivery.key) in ("", ".", "..") for part in parts):
            return False
        return bool(delivery.key) or "{key}" not in path + query

    def status_request(self, delivery: Delivery, token: str | None = None) -> Request:
        """The question whether the partner has the delivery. Only for a feed with a `status_url`."""
        headers = {name: value for name, value in self.headers.items() if name != "content-type"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        # The key's text is percent-encoded already, part by part.
        url = str(self.status_url).replace("{key}", delivery.key).replace("{id}", quote(delivery.id, safe=":"))
        return Request("GET", parse_url(url), headers, connect_seconds=self.connect_seconds)

    def body(self, payload: str) -> bytes:
        """What is sent for a row. Raises `Undone` for a row that nothing can be made of."""
        return payload.encode() if self.render is None else to_json(self.render(row_of(payload)))

    def _headers_of(self, payload: str) -> dict[str, str]:
        """The headers whose values come from the row, but for those that are NULL."""
        row = row_of(payload)
        texts = {name: _header_text(row, name, column) for name, column in self.row_headers.items()}
        return {name: text for name, text in texts.items() if text is not None}


def prepare(feed: Feed) -> Prepared:
    """Work out what every request of `feed` shares. Raises `ConfigError` where one could not be sent."""
    found = list(problems(feed))
    if found:
        raise ConfigError(found)
    partner = feed.partner
    return Prepared(
        feed=feed,
        method=partner.method,
        url=partner.url,
        headers=_headers(feed),
        deadline_seconds=partner.timeout.total_seconds(),
        connect_seconds=partner.connect_timeout.total_seconds(),
        secrets=_secrets(feed),
        render=None if feed.body is None else renderer(feed.body),
        row_headers={
            name.lower(): text.column
            for name, value in partner.headers.items()
            if isinstance(text := parse_text(value), Reference)
        },
        sign=signer(partner.signing) if partner.signing else None,
        status_url=partner.status_url,
        success=partner.success,
    )


def _headers(feed: Feed) -> dict[str, str]:
    """Later ones win, whatever their case: our default, the feed's, then the authentication."""
    headers = {"content-type": "application/json"}
    for name, value in feed.partner.headers.items():
        text = parse_text(value)
        if isinstance(text, str):
            headers[name.lower()] = text
    if (user := _user(feed.partner.url)) and isinstance(feed.partner.auth, NoAuth):
        headers["authorization"] = basic(*user)
    headers |= {name.lower(): value for name, value in auth_headers(feed.partner.auth).items()}
    if isinstance(feed.partner.auth, OAuth2Auth):
        headers.pop("authorization", None)
    return headers


def _secrets(feed: Feed) -> tuple[str, ...]:
    """The longest first, so that a secret within another leaves nothing of it behind."""
    partner = feed.partner
    secrets = {*auth_secrets(partner.auth), partner.url.password or ""}
    secrets |= {value for name, value in partner.headers.items() if SECRET_NAME.search(name)}
    secrets |= {value for name, value in _queries(feed) if SECRET_NAME.search(name)}
    secrets |= set(_named_secrets(feed.body))
    secrets |= {secret.get_secret_value() for secret in feed.secrets}
    if partner.signing:
        texts = [secret.get_secret_value() for secret in partner.signing.secrets]
        secrets |= {*texts, *(text.removeprefix("whsec_") for text in texts)}
    if user := _user(partner.url):
        secrets.add(basic(*user).removeprefix("Basic "))
    references = {value for value in secrets if isinstance(parse_text(value), Reference)}
    return tuple(sorted(secrets - references - {""}, key=len, reverse=True))


def _user(url: Url) -> tuple[str, str] | None:
    """The user and password that a URL holds."""
    return (url.username or "", url.password or "") if url.username or url.password else None


def _queries(feed: Feed) -> Iterator[tuple[str, str]]:
    """The queries of the feed's URLs, as (name, value): as written, which is how they are sent, and decoded."""
    for text in (feed.partner.url.target, feed.partner.status_url or ""):
        query = text.partition("?")[2]
        yield from parse_qsl(query, keep_blank_values=True)
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            yield unquote(name), value


def _named_secrets(part: Any) -> list[str]:
    """The texts in a body's template whose name says that they are secret."""
    if isinstance(part, list):
        return [secret for item in part for secret in _named_secrets(item)]
    if not isinstance(part, Mapping):
        return []
    named = [value for name, value in part.items() if isinstance(value, str) and SECRET_NAME.search(name)]
    return named + [secret for value in part.values() for secret in _named_secrets(value)]


def _header_text(row: Row, name: str, column: str) -> str | None:
    """A header's value from the row; `None` where the column is NULL. Raises `Undone` for one HTTP cannot carry."""
    value = cell(row, column, f"headers.{name}")
    if value is None:
        return None
    text = value if isinstance(value, str) else to_json(value).decode()
    if not header_value(text):
        raise unsendable(f"headers.{name}: column {column!r} holds more than printable ASCII on one line")
    return text


def _without_started(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        for length in range(len(secret) - 1, 0, -1):
            if text.endswith(secret[:length]):
                return text[:-length]
    return text
