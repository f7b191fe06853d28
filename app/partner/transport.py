"""The connections to partners: one pool for each TLS configuration. None is opened before it is
needed.

From the environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` are read, for a private certificate
authority. `HTTP_PROXY` and its like are not: they are often set for other software, and would lead
rows through a third party.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import certifi

from app.core.url import Origin, Url
from app.feeds.partner import Tls
from app.partner.connection import Reader
from app.partner.deadlines import Deadlines
from app.partner.dial import Names, dial
from app.partner.incoming import Incoming
from app.partner.kept import Place, Pooled
from app.partner.slots import Slots

_SWEEP_SECONDS = 5.0


class Transport:
    """At most `connections` connections (1 or more) in use at once, on one event loop: the one it
    is first used on.

    Making it raises `OSError` (`ssl.SSLError` among them) where a file that `tls` names cannot be
    used.
    """

    def __init__(
        self,
        tls: Tls | None,
        connections: int,
        reader: Reader = Incoming,
        names: Names | None = None,
    ) -> None:
        """`names`: which addresses it may connect to; by default any."""
        self._context = tls_context(tls)
        self._reader = reader
        self._names = names or Names()
        self._places: dict[Origin, Place] = {}
        self._in_use: set[Pooled] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines | None = None
        self.slots = Slots(connections)
        """To be held while a connection is."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Asking for the running one is a system call in some Pythons, so it is done
        once.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def deadlines(self) -> Deadlines:
        """When the requests under way must have ended."""
        if self._deadlines is None:
            self._deadlines = Deadlines(self.loop)
        return self._deadlines

    def reuse(self, url: Url) -> Pooled | None:
        """A kept connection that can serve again; `None`: there is none."""
        place = self._places.get(url.origin)
        pooled = place.take(self.loop.time()) if place else None
        if pooled is not None:
            self._in_use.add(pooled)
        return pooled

    async def open(self, url: Url) -> Pooled:
        """A new connection. Raises `OSError`."""
        connection = await dial(url, self._names, self._context, self._reader)
        if self._closed:
            connection.abort()
            raise ConnectionAbortedError("the client was closed")
        place = self._places.setdefault(url.origin, Place())
        pooled = Pooled(connection, place, self.loop.time())
        self._in_use.add(pooled)
        return pooled

    def give_back(self, pooled: Pooled) -> None:
        """Return a connection, whatever came of it: it is kept if it can serve again."""
        self._in_use.discard(pooled)
        connection, now = pooled.connection, self.loop.time()
        if connection.broke_off:
            pooled.place.broken_off(now)
        if connection.closed:
            return None
        if self._closed or not connection.served:
            return connection.abort()
        pooled.place.put(pooled, now)
        if self._sweep is None:
            self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._close_old)
        return None

    def renew(self, context: ssl.SSLContext, connections: int) -> None:
        """Open connections under this context from now on, with at most so many in use at once."""
        self._context = context
        self.slots.resize(connections)

    async def close(self) -> None:
        """Close every connection; requests in flight fail."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        if self._deadlines is not None:
            self._deadlines.close()
        for pooled in [
            *self._in_use,
            *(pooled for place in self._places.values() for pooled in place),
        ]:
            pooled.connection.abort()
        await self._names.close()
        await asyncio.sleep(0)  # transports report their end in the loop's next round

    def _close_old(self) -> None:
        """Close connections that have been idle for too long."""
        for place in self._places.values():
            place.close_old(self.loop.time())
        idle = any(True for place in self._places.values() for _ in place)
        self._sweep = self.loop.call_later(_SWEEP_SECONDS, self._close_old) if idle else None


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """Certificates and host names are always verified; `tls` says whom to trust, and who we are.

    Raises `OSError` (`ssl.SSLError` among them) where a file cannot be used.
    """
    context = (
        ssl.create_default_context(cafile=tls.ca_file)
        if tls and tls.ca_file
        else _default_context()
    )
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
