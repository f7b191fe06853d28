"""`REDIS_URL`, parsed once for all clients, so that all of them understand the same.

The libraries behind worker, beat, result backend, Flower and throttle each read such a URL in their
own way: one verifies no certificate unless told to, one refuses to start, one uses other names for
the same option. They get what is parsed here, never the text.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

PORT = 6379
_FORM = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<user>[^/?#:@]*)(?::(?P<password>[^/?#@]*))?@)?"
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^/?#:@\[\]\s]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<database>[^?#@]*))?(?:\?(?P<query>[^#@]*))?",
    re.IGNORECASE,
)
_ALLOWED = (
    "redis://host:port/0, or rediss:// for TLS; with a user or password, rediss://user:password@host:port/0, where "
    "@ : / ? # % are written %40 %3A %2F %3F %23 %25"
)
_HIDDEN = "a value not shown here"
_VERIFIED = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_REQUIRED,  # a client that asks for a certificate always gets one: the two are the same to it
    "none": ssl.CERT_NONE,
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_YES = MappingProxyType(
    {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
)


class WrongRedisUrl(ValueError):
    """A URL that clients would read differently. Never quotes its user or password."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"{found}; {allowed}")
        self.found = found
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is, and how to connect to it."""

    host: str
    port: int = PORT
    database: int = 0
    username: str | None = field(default=None, repr=False)
    """Decoded, as is the password."""
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = None
    """The `ssl_…` arguments of redis-py, which Celery takes as `broker_use_ssl`; `None`: no TLS."""

    @property
    def verified(self) -> bool:
        """Whether the server must prove its identity by a trusted certificate for the host."""
        return (
            self.tls is not None
            and self.tls["ssl_cert_reqs"] != ssl.CERT_NONE
            and self.tls["ssl_check_hostname"]
        )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of redis-py's clients."""
        place = {"host": self.host, "port": self.port, "db": self.database}
        login = {"username": self.username, "password": self.password}
        return {**place, **login} | ({"ssl": True, **self.tls} if self.tls else {})

    def client_options(self, timeout: float) -> dict[str, Any]:
        """The same for a client of ours: it reads text, and gives up after `timeout` seconds."""
        text = {
            "decode_responses": True,
            "encoding_errors": "replace",
        }  # what is none of ours need not be text
        return {
            **self.options,
            **text,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
        }

    @property
    def text(self) -> str:
        """The URL for Celery, password included, without options: those are in `tls`."""
        user = "" if self.username is None else quote(self.username, safe="")
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        login = f"{user}{password}@" if user or password else ""
        return f"{'redis' if self.tls is None else 'rediss'}://{login}{host}:{self.port}/{self.database}"


def parse_redis_url(text: str) -> RedisUrl:
    """Take a URL apart. Raises `WrongRedisUrl`.

    `rediss://` verifies the server's certificate and host name, against the system's authorities,
    without any option.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise _no_such_form(text)
    port = int(found["port"] or PORT)
    if not 0 < port < 2**16:
        raise WrongRedisUrl(f"the port {port}", "a port is 1 to 65535")
    database = found["database"] or "0"
    if not (database.isascii() and database.isdigit()):
        raise WrongRedisUrl(
            "a path that is no number", "the path is the number of the database: …/0"
        )
    secure = found["scheme"].lower() == "rediss"
    tls = _tls(found["query"] or "", secure=secure)
    return RedisUrl(
        host=found["address"] or found["name"],
        port=port,
        database=int(database),
        username=unquote(found["user"]) if found["user"] else None,
        password=unquote(found["password"]) if found["password"] else None,
        tls=tls if secure else None,
    )


def _no_such_form(text: str) -> WrongRedisUrl:
    scheme, separator, _ = text.partition("://")
    if (
        separator
        and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme)
        and scheme.lower() not in ("redis", "rediss")
    ):
        return WrongRedisUrl(f"{scheme}://…", _ALLOWED)
    return WrongRedisUrl(_HIDDEN if text else "nothing", _ALLOWED)


def _tls(query: str, *, secure: bool) -> dict[str, Any]:
    """The arguments for a TLS connection: verified, unless the query says otherwise."""
    options = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise WrongRedisUrl(
                _option(name),
                f"not every client would understand it: {', '.join(_OPTIONS)} are known",
            )
        if not secure:
            raise WrongRedisUrl(
                _option(name), "it belongs to TLS: write rediss:// in place of redis://"
            )
        options[name] = value
    demanded = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    if demanded not in _VERIFIED:
        raise WrongRedisUrl(
            _option("ssl_cert_reqs"), "required (which it is without the option) or none"
        )
    if options["ssl_check_hostname"].lower() not in _YES:
        raise WrongRedisUrl(
            _option("ssl_check_hostname"), "true (which it is without the option) or false"
        )
    tls: dict[str, Any] = {name: options[name] for name in _FILES if name in options}
    _check_files(tls)
    tls["ssl_cert_reqs"] = _VERIFIED[demanded]
    tls["ssl_check_hostname"] = _YES[options["ssl_check_hostname"].lower()] and demanded != "none"
    return tls


def _option(name: str) -> str:
    return f"the option {name[:40] or 'without a name'}"


def _check_files(given: Mapping[str, str]) -> None:
    """Raises `WrongRedisUrl` for a file that no client could load: they would report it later, each
    in its own way.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, certificate, key = (given.get(name) for name in _FILES)
    if key and not certificate:
        raise WrongRedisUrl(_option("ssl_keyfile"), "name the certificate too, with ssl_certfile")
    for name, path in given.items():
        try:
            if name == "ssl_ca_certs" and authorities:
                context.load_verify_locations(authorities)
            elif name == "ssl_certfile" and certificate:
                context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError:
            raise WrongRedisUrl(
                f"the option {name}", f"{path!r} holds no PEM that can be used"
            ) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it cannot be read"
            raise WrongRedisUrl(f"the option {name}", f"{path!r}: {why}") from None


def _no_password() -> str:
    raise ValueError("a key with a passphrase cannot be used")
