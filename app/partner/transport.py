"""The connections to a partner: one pool for each way of doing TLS, opened on the first request.

From the environment only `SSL_CERT_FILE` and `SSL_CERT_DIR` are read (by httpx), for a private certificate authority.
`HTTP_PROXY` and its like are not: they are often set for other software, and would lead rows through a third party.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import aiohttp
import httpx

from app.endpoint import Tls

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

KEEPALIVE_SECONDS = 15.0
"""How long an idle connection is kept. Short: one that the partner closed meanwhile costs an attempt."""


class Connector(aiohttp.TCPConnector):
    """Never sends a request on a connection where something came that nobody had asked for.

    aiohttp alone would take it for the answer to that request: a second answer to one row would settle the next. RFC
    9112, section 6.3, forbids it.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        # aiohttp has no public place for it; `tests/integration/test_partner_client.py` holds the promise
        while connection := await super()._get(key, traces):
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


class Transport:
    """At most `connections` connections (1 or more) at once, used on one event loop. It opens none before it is used.

    Making it raises `OSError` (`ssl.SSLError` among them) where a file that `tls` names cannot be used.
    """

    def __init__(self, tls: Tls | None, connections: int) -> None:
        self._context = tls_context(tls)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """aiohttp's session. The first call makes it: it needs the loop that runs."""
        if self._session is None:
            self._session = _open_session(self._context, self._connections)
        return self._session

    async def close(self) -> None:
        """Close every connection; requests in flight fail."""
        if self._session is not None:
            await self._session.close()


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """Certificates and host names are always verified; `tls` says whom to trust, and who we are.

    Raises `OSError` (`ssl.SSLError` among them) where a file cannot be used.
    """
    if tls is None:
        return httpx.create_ssl_context()
    context = ssl.create_default_context(cafile=tls.ca_file) if tls.ca_file else httpx.create_ssl_context()
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file, _password(tls))
    return context


def _password(tls: Tls) -> str:
    """Empty where there is none: with `None`, OpenSSL would ask for one on the terminal."""
    return tls.key_password.get_secret_value() if tls.key_password else ""


def _open_session(context: ssl.SSLContext, connections: int) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=Connector(limit=connections, ssl=context, keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
    # aiohttp would send a PUT again by itself when a kept connection turns out closed; every attempt is on record.
    session._retry_connection = False  # noqa: SLF001  there is no public switch
    return session
