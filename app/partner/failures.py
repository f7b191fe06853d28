"""Every way a request can fail without an answer, translated by one table."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from enum import StrEnum

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

_ANY_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+")


class Failure(StrEnum):
    """Why there is no answer."""

    DEADLINE = "Deadline"
    """The whole attempt took longer than `partner.timeout`. The request may have been processed."""
    NAME_ERROR = "NameError"
    """The host name does not resolve."""
    CONNECT_ERROR = "ConnectError"
    CONNECT_TIMEOUT = "ConnectTimeout"
    TLS_ERROR = "TLSError"
    PROXY_ERROR = "ProxyError"
    DISCONNECTED = "Disconnected"
    """The partner closed the connection before its answer. The request may have been processed."""
    NETWORK_ERROR = "NetworkError"
    READ_ERROR = "ReadError"
    """The answer broke off."""
    READ_TIMEOUT = "ReadTimeout"
    WRITE_ERROR = "WriteError"
    WRITE_TIMEOUT = "WriteTimeout"
    PROTOCOL_ERROR = "ProtocolError"
    """What came is not HTTP, or not HTTP that answers the request."""
    INVALID_URL = "InvalidURL"
    OTHER = "HTTPError"
    """An error that only says that it is one."""


FAILURES: Mapping[type[Exception], Failure] = {
    aiohttp.ClientConnectorDNSError: Failure.NAME_ERROR,
    aiohttp.ClientSSLError: Failure.TLS_ERROR,
    aiohttp.ServerFingerprintMismatch: Failure.TLS_ERROR,
    aiohttp.ClientProxyConnectionError: Failure.PROXY_ERROR,
    aiohttp.ClientHttpProxyError: Failure.PROXY_ERROR,
    aiohttp.ClientConnectorError: Failure.CONNECT_ERROR,
    aiohttp.ConnectionTimeoutError: Failure.CONNECT_TIMEOUT,
    aiohttp.ServerTimeoutError: Failure.READ_TIMEOUT,
    aiohttp.ServerConnectionError: Failure.DISCONNECTED,
    aiohttp.ClientConnectionError: Failure.NETWORK_ERROR,
    aiohttp.ClientPayloadError: Failure.READ_ERROR,
    aiohttp.client_exceptions.UploadAbortedError: Failure.WRITE_ERROR,
    aiohttp.ClientResponseError: Failure.PROTOCOL_ERROR,
    aiohttp.client_exceptions.RedirectClientError: Failure.PROTOCOL_ERROR,
    aiohttp.InvalidURL: Failure.INVALID_URL,
    aiohttp.NonHttpUrlClientError: Failure.INVALID_URL,
    aiohttp.ClientError: Failure.OTHER,
    HttpProcessingError: Failure.PROTOCOL_ERROR,
    ssl.SSLError: Failure.NETWORK_ERROR,
    TimeoutError: Failure.READ_TIMEOUT,
    OSError: Failure.NETWORK_ERROR,
}
"""An error is looked up by its class, then by its base classes in order."""

NEVER_SENT = frozenset(
    {
        Failure.NAME_ERROR,
        Failure.CONNECT_ERROR,
        Failure.CONNECT_TIMEOUT,
        Failure.TLS_ERROR,
        Failure.PROXY_ERROR,
        Failure.INVALID_URL,
    }
)
"""After these nothing can have been processed: there was no connection to send the request on. After all others it may
have been, whatever is likely: a request is on its way from its first byte."""

TRANSLATED = tuple(FAILURES)
"""What a request may raise for anything the network or the partner does."""

_WORDS: Mapping[Failure, str] = {
    Failure.CONNECT_TIMEOUT: "no connection within partner.connect_timeout",
    Failure.DISCONNECTED: "the partner closed the connection before its answer",
    Failure.INVALID_URL: "partner.url cannot be requested",
}
"""Our text where the error's own misleads, or may quote the URL or the partner's headers."""


def failure_of(error: BaseException) -> Failure:
    """The kind of an error that a request raised. Raises `LookupError` for one that the table does not have."""
    for base in type(error).__mro__:
        if found := FAILURES.get(base):
            return found
    raise LookupError(f"{type(error).__name__}: not an error of a request; add it to app.partner.failures.FAILURES")


def describe(error: BaseException) -> str:
    """`<kind>: <text>` for an error that a request raised: one line, without a URL."""
    failure = failure_of(error)
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    masked = _ANY_URL.sub("<url>", _WORDS.get(failure, text))
    return f"{failure}: {_one_line(masked)}".rstrip(": ")


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
