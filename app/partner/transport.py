"""The connections to a partner: one pool for each way of doing TLS. None is opened before it is needed.

From the environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` are read, for a private certificate authority. `HTTP_PROXY`
and its like are not: they are often set for other software, and would lead rows through a third party.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections import defaultdict, deque
from contextlib import suppress

import certifi

from app.endpoint import Tls
from app.partner.connection import Connection, Reader
from app.partner.dial import Names, dial
from app.partner.incoming import Incoming
from app.partner.slots import Slots
from app.url import Origin, Url

IDLE_SECONDS = 15.0
"""How long an idle connection is kept, unless the other side says that it closes earlier."""

AGE_SECONDS = (30.0, 50.0)
"""A connection serves for a random time between these. A name that has moved is followed within a minute, however
steady the traffic, and connections that were opened together are not closed together."""

BROKEN_OFF, BROKEN_OFF_SECONDS, UNKEPT_SECONDS = 3, 10.0, 60.0
"""Where so many kept connections within so many seconds are closed without an answer, none is kept for a minute: the
other side closes them unsaid, and each request on one would be in doubt."""

_SWEEP_SECONDS = 5.0
_JUST_SECONDS = 0.01
_EARLY_SECONDS = 1.0
"""How long before the other side closes an idle connection we do."""


class Pooled:
    """A connection with what the pool knows of it, by the loop's clock."""

    __slots__ = ("connection", "expires_at", "idle_since", "idle_until", "origin")

    def __init__(self, connection: Connection, origin: Origin, now: float) -> None:
        self.connection = connection
        self.origin = origin
        self.expires_at = now + random.uniform(*AGE_SECONDS)
        """It serves no new request from then on."""
        self.idle_since = self.idle_until = now

    def silent(self, now: float) -> bool:
        """Whether nothing came that was not asked for. What has just served was read to the end: no need to look."""
        return not self.connection.closed and (now - self.idle_since < _JUST_SECONDS or self.connection.silent())


class Transport:
    """At most `connections` connections (1 or more) in use at once, on one event loop: the one it is first used on.

    Making it raises `OSError` (`ssl.SSLError` among them) where a file that `tls` names cannot be used.
    """

    def __init__(self, tls: Tls | None, connections: int, reader: Reader = Incoming) -> None:
        self._context = tls_context(tls)
        self._reader = reader
        self._names = Names()
        self._idle: defaultdict[Origin, list[Pooled]] = defaultdict(list)
        self._in_use: set[Pooled] = set()
        self._broken_off: defaultdict[Origin, deque[float]] = defaultdict(lambda: deque(maxlen=BROKEN_OFF))
        """When kept connections were last closed without an answer."""
        self._unkept: dict[Origin, float] = {}
        """Until when none is kept."""
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.slots = Slots(connections)
        """To be held while a connection is."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Asking for the running one is a system call in some Pythons, so it is done once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def reuse(self, url: Url) -> Pooled | None:
        """A connection that was used before and can be again; the one used last, so that others may grow old."""
        idle = self._idle.get(url.origin)
        if not idle:
            return None
        now = self.loop.time()
        while idle:
            pooled = idle.pop()
            if now < pooled.idle_until and now < pooled.expires_at and pooled.silent(now):
                self._in_use.add(pooled)
                return pooled
            pooled.connection.abort()
        return None

    async def open(self, url: Url) -> Pooled:
        """A new connection. Raises `OSError`."""
        connection = await dial(url, self._names, self._context, self._reader)
        if self._closed:
            connection.abort()
            raise ConnectionAbortedError("the client was closed")
        pooled = Pooled(connection, url.origin, self.loop.time())
        self._in_use.add(pooled)
        return pooled

    def give_back(self, pooled: Pooled) -> None:
        """Done with a connection, however that went: it is kept if it can serve again."""
        self._in_use.discard(pooled)
        connection, loop = pooled.connection, self.loop
        if connection.broke_off:
            self._note_broken_off(pooled.origin, loop.time())
        if connection.closed:
            return None
        if self._closed or not connection.served or loop.time() < self._unkept.get(pooled.origin, 0.0):
            return connection.abort()
        pooled.idle_since = loop.time()
        pooled.idle_until = pooled.idle_since + _idle_seconds(connection.keep_alive)
        self._idle[pooled.origin].append(pooled)
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_SECONDS, self._close_old)
        return None

    def _note_broken_off(self, origin: Origin, now: float) -> None:
        """Keep no connections for a while where this happens again and again: those that are idle go too."""
        times = self._broken_off[origin]
        times.append(now)
        if len(times) == BROKEN_OFF and now - times[0] < BROKEN_OFF_SECONDS:
            self._unkept[origin] = now + UNKEPT_SECONDS
            for pooled in self._idle.pop(origin, ()):
                pooled.connection.abort()

    async def close(self) -> None:
        """Close every connection; requests in flight fail."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for pooled in [*self._in_use, *(pooled for idle in self._idle.values() for pooled in idle)]:
            pooled.connection.abort()
        self._idle.clear()
        await self._names.close()
        await asyncio.sleep(0)  # transports report their end in the loop's next round

    def _close_old(self) -> None:
        """Close what has been idle for too long."""
        now = self.loop.time()
        for origin, idle in list(self._idle.items()):
            kept = [p for p in idle if now < min(p.idle_until, p.expires_at) and not p.connection.closed]
            for pooled in set(idle) - set(kept):
                pooled.connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._close_old) if self._idle else None


def _idle_seconds(keep_alive: str | None) -> float:
    """From `Keep-Alive: timeout=5, max=100`, which many servers send."""
    for part in (keep_alive or "").split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout":
            with suppress(ValueError):
                return max(0.0, min(IDLE_SECONDS, float(value) - _EARLY_SECONDS))
    return IDLE_SECONDS


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """Certificates and host names are always verified; `tls` says whom to trust, and who we are.

    Raises `OSError` (`ssl.SSLError` among them) where a file cannot be used.
    """
    context = ssl.create_default_context(cafile=tls.ca_file) if tls and tls.ca_file else _default_context()
    if tls and tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file, _password(tls))
    return context


def authorities_named() -> tuple[str | None, str | None]:
    """What `SSL_CERT_FILE` and `SSL_CERT_DIR` say; `None` for one that is not set or empty."""
    return os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None


def _default_context() -> ssl.SSLContext:
    file, folder = authorities_named()
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    return ssl.create_default_context(cafile=certifi.where())


def _password(tls: Tls) -> str:
    """Empty where there is none: with `None`, OpenSSL would ask for one on the terminal."""
    return tls.key_password.get_secret_value() if tls.key_password else ""
