"""Every way in which a request can fail without an answer, and what that says of the request: a
table a phase.
"""

from __future__ import annotations

import errno
import resource
import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum

from app.core.attempts import Ruling
from app.core.shown import one_line


class Failure(StrEnum):
    """Why there is no answer."""

    DEADLINE = "Deadline"
    """The whole attempt took longer than `partner.timeout`."""
    NAME_ERROR = "NameError"
    """The host name does not resolve, or no name server answers."""
    CONNECT_ERROR = "ConnectError"
    CONNECT_TIMEOUT = "ConnectTimeout"
    TLS_ERROR = "TLSError"
    LOCAL_ERROR = "LocalError"
    """This machine has no file descriptor, port or memory left."""
    NETWORK_ERROR = "NetworkError"
    """This machine has no route to the partner's network."""
    CLOCK_ERROR = "ClockError"
    """The partner's certificate is not valid yet: likely this machine's clock is behind."""
    DISCONNECTED = "Disconnected"
    """The partner closed the connection before its answer."""
    READ_ERROR = "ReadError"
    """The answer broke off."""
    PROTOCOL_ERROR = "ProtocolError"
    """What came is not HTTP, or not HTTP that answers the request."""


class Undone(Exception):
    """An attempt that ended without an answer to judge by its status. The text is one line, secrets
    not yet replaced.

    `ruling`: what it means for the delivery. `status`: the one that came, where the rest of the
    answer did not. `wait`: for how many seconds another try is of no use.
    """

    def __init__(
        self, text: str, ruling: Ruling, status: int | None = None, *, wait: float | None = None
    ) -> None:
        super().__init__(text)
        self.ruling = ruling
        self.status = status
        self.wait = wait


class Stale(Undone):
    """A connection that had served before was closed before the whole of this request reached the
    other side.
    """


class Expired(Undone):
    """The deadline passed before the answer was complete."""

    def __init__(self, status: int | None) -> None:
        super().__init__(Failure.DEADLINE, Ruling.LOST, status)


CONNECTING: Mapping[type[OSError], Failure] = {
    socket.gaierror: Failure.NAME_ERROR,
    ssl.SSLError: Failure.TLS_ERROR,
    TimeoutError: Failure.CONNECT_TIMEOUT,
    OSError: Failure.CONNECT_ERROR,
}
"""What getting a connection may raise. An error is looked up by its class, then by its base classes
in order. After these nothing can have been processed: there was no connection to send the request
on."""

_OWN_ERRNOS: Mapping[int, Failure] = {
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL),
        Failure.LOCAL_ERROR,
    ),
    **dict.fromkeys((errno.ENETUNREACH, errno.ENETDOWN), Failure.NETWORK_ERROR),
}
_NO_NAMES = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})
"""No name server answered. `EAI_NONAME` is an answer: the name does not exist."""
_NOT_YET_VALID = 9
"""`X509_V_ERR_CERT_NOT_YET_VALID` (OpenSSL, x509_vfy.h)."""

_REFUSED_BY_TLS = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "DECRYPT_ERROR",
        "HANDSHAKE_FAILURE",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)
"""Alerts (RFC 8446, section 6.2) that refuse us. With TLS 1.3 they come when we have sent already;
a server that sends one has handed nothing of what came to its application."""


def connecting_failed(error: OSError) -> tuple[Failure, str]:
    """The kind of a connecting error, and its text."""
    failure = next(CONNECTING[base] for base in type(error).__mro__ if base in CONNECTING)
    if failure is Failure.CONNECT_ERROR:
        failure = _OWN_ERRNOS.get(error.errno or 0, failure)
    elif getattr(error, "verify_code", None) == _NOT_YET_VALID:
        failure = Failure.CLOCK_ERROR
    return failure, _reason(error) + _limit(error)


def is_ours(error: OSError) -> bool:
    """Whether connecting failed for lack of something on our side: neither the partner's fault nor
    the row's.
    """
    if isinstance(error, socket.gaierror):
        return error.errno in _NO_NAMES
    return connecting_failed(error)[0] in (
        Failure.LOCAL_ERROR,
        Failure.NETWORK_ERROR,
        Failure.CLOCK_ERROR,
    )


def exchange_failed(error: BaseException | None, *, heard: bool) -> tuple[Failure, str, Ruling]:
    """What it means that a connection was lost with `error` (`None`: closed in order) before the
    answer was complete.

    `heard`: some of the answer had come. A request may have been processed from its first byte on.
    """
    if not heard and isinstance(error, ssl.SSLError) and _alert(error) in _REFUSED_BY_TLS:
        return Failure.TLS_ERROR, _reason(error), Ruling.FAILED
    if heard:
        return Failure.READ_ERROR, _because("the answer broke off", error), Ruling.LOST
    return (
        Failure.DISCONNECTED,
        _because("the partner closed the connection before its answer", error),
        Ruling.LOST,
    )


def _because(text: str, error: BaseException | None) -> str:
    return f"{text}: {_reason(error)}" if isinstance(error, OSError) else text


def _reason(error: OSError) -> str:
    return one_line(error.strerror or str(error) or type(error).__name__)


def _limit(error: OSError) -> str:
    """Which limit it was, where that is one of this process."""
    if error.errno != errno.EMFILE or isinstance(error, socket.gaierror):
        return ""
    return f" (this process may have {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}: ulimit -n)"


def _alert(error: ssl.SSLError) -> str:
    """`TLSV13_ALERT_CERTIFICATE_REQUIRED` → `CERTIFICATE_REQUIRED`."""
    return (error.reason or "").partition("_ALERT_")[2]
