"""An http or https URL as its owner wrote it: parsed, never rewritten.

Libraries that normalise a URL decode `%2F` or drop an empty query, which breaks services that sign
the URL's text. A URL that cannot be sent as written is refused here; only non-ASCII letters are
encoded (RFC 3986, section 2.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias
from urllib.parse import parse_qsl, quote, unquote

from pydantic import BeforeValidator, Field

Origin: TypeAlias = tuple[str, str, int]

_FORM = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:(?P<user>[^/?#]*)@)?"
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%25[\w.-]+)?)\]|(?P<name>[^/?#:@\[\]\\]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?].*)?",
    re.IGNORECASE | re.DOTALL,
)
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_HOST = re.compile(r"[a-z0-9._~-]{1,253}")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Url:
    """A URL's parts. The text may hold secrets, so its repr shows only scheme, host and port."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name in lower case and ASCII (an international one in its `xn--` form), or an address
    without brackets.
    """
    port: int
    target: str = field(repr=False)
    """Path and query as written, for the request line."""
    username: str | None = field(default=None, repr=False)
    """Percent-decoded, as is the password."""
    password: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> Origin:
        """Scheme, host and port: URLs of one origin may share connections."""
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """For the `Host` header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """As written, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """Names and values, decoded."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def __str__(self) -> str:
        """The URL without its user."""
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(text: object) -> Url:
    """Parse a URL. Raises `ValueError`, which says what is allowed, for one that cannot be sent as
    written.
    """
    if isinstance(text, Url):
        return text
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None or not isinstance(text, str):
        raise ValueError("an http or https URL with a host")
    if _UNSENDABLE.search(text):
        raise ValueError("a URL without blanks and control characters (a blank is written %20)")
    if "#" in text:
        raise ValueError(
            "a URL without #, since what follows it is never sent (a # is written %23)"
        )
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if not 0 < port < 2**16:
        raise ValueError("a URL whose port is 1 to 65535")
    user, colon, password = (found["user"] or "").partition(":")
    target = found["target"] or "/"
    return Url(
        scheme=scheme,
        host=found["address"].replace("%25", "%") if found["address"] else _name(found["name"]),
        port=port,
        target=as_sent(target if target[0] == "/" else f"/{target}"),
        username=unquote(user) if user or colon else None,
        password=unquote(password) if colon else None,
    )


def as_sent(text: str) -> str:
    """A part of a URL as sent: non-ASCII letters percent-encoded, everything else as written."""
    return _BEYOND_ASCII.sub(lambda letters: quote(letters[0]), text)


def span_of_place(text: str) -> tuple[int, int] | None:
    """Where in a URL's text host and port begin and end; `None` where it is no URL."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    begin = found.start("name") if found["name"] else found.start("address") - 1
    return begin, found.start("target") if found["target"] else len(text)


HttpUrl: TypeAlias = Annotated[Url, BeforeValidator(parse_url), Field(repr=False)]
"""The type of settings that hold a URL."""


def _name(name: str) -> str:
    try:
        ascii_name = name.lower() if name.isascii() else name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_name = ""
    if not _HOST.fullmatch(ascii_name):
        raise ValueError("a URL whose host is a name or an address")
    return ascii_name
