"""The HTTP clients that were tried for partners (docs/decisions/0034-one-client.md), each in
`exchange`'s shape.

Each is set up as well as it lets itself be: no redirects, cookies, proxies, unpacking, and as
tolerant as it can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import aiohttp
import httptools
from pyreqwest import exceptions
from pyreqwest.client import Client, ClientBuilder
from yarl import URL

from app.core.attempts import RESPONSE_LIMIT, Ruling
from app.feeds.partner import Tls
from app.partner.connection import Reader
from app.partner.exchange import Reply, Request, exchange
from app.partner.failures import Undone
from app.partner.head import Fields, Framing, Head
from app.partner.incoming import INTERIM_LIMIT, Incoming, Malformed
from app.partner.transport import Transport, tls_context


class Candidate(Protocol):
    """A client."""

    async def exchange(
        self, request: Request, seconds: float, limit: int = RESPONSE_LIMIT
    ) -> Reply:
        """See `app.partner.exchange.exchange`."""

    async def close(self) -> None:
        """Close every connection."""


class Ours:
    """Our connections, with a reader of answers of our own, or another one."""

    def __init__(self, tls: Tls | None, connections: int, reader: Reader = Incoming) -> None:
        self._transport = Transport(tls, connections, reader)

    async def exchange(
        self, request: Request, seconds: float, limit: int = RESPONSE_LIMIT
    ) -> Reply:
        """See `Candidate`."""
        return await exchange(self._transport, request, seconds, limit)

    async def close(self) -> None:
        """See `Candidate`."""
        await self._transport.close()


class ParsedByLlhttp(Incoming):
    """Reads an answer with llhttp (`httptools`), every leniency on; a status that came before an
    error counts.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_transfer_encoding=True,
            lenient_version=True,
            lenient_data_after_close=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_crlf_after_chunk=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._lines: list[bytes] = [b""]
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """See `Incoming.feed`."""
        self._size += len(data)
        self._heads = 1
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.head is None or self.head.status < 200:
                raise Malformed("the answer is not HTTP/1") from error
            self.complete = self.spoiled = True
        if not self.complete and self._size > self._bound + 2**16:
            if self.head is None:
                raise Malformed("a head beyond the bound")
            self.complete = self.spoiled = True
        return self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field came."""
        self._lines.append(name + b":" + value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        status = self._parser.get_status_code()
        if self.complete:
            self.spoiled = True  # a second answer
            return
        if status < 200:
            self._interims += 1
            if self._interims > INTERIM_LIMIT:
                raise Malformed("too many interim answers")
            return
        fields = Fields(b"\n".join([*self._lines, b""]).decode("latin-1"))
        told = (
            fields.get("content-length") is not None or fields.get("transfer-encoding") is not None
        )
        framing = Framing.LENGTH if told or status in (204, 304) else Framing.CLOSE
        self.head = Head(status, fields, framing, 0, kept=self._parser.should_keep_alive())

    def on_body(self, part: bytes) -> None:
        """A part of the body came."""
        if self.complete:
            return
        self._body = bytes(self._body) + part[: self._limit - len(self._body)]

    def on_message_complete(self) -> None:
        """The answer is complete, or an interim one is."""
        self._lines = [b""]
        self.complete = self.head is not None


class Aiohttp:
    """aiohttp, as it was used until now."""

    def __init__(self, tls: Tls | None, connections: int) -> None:
        self._context, self._connections = tls_context(tls), connections
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, request: Request, seconds: float, limit: int = RESPONSE_LIMIT
    ) -> Reply:
        """See `Candidate`."""
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline, self._sent(request) as response:
                body = await response.content.readany()
                while len(body) <= limit and (chunk := await response.content.readany()):
                    body += chunk
                return Reply(response.status, _fields(response.headers), body[:limit])
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise Undone(type(error).__name__, Ruling.FAILED) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Undone(f"{type(error).__name__} {error}"[:100], Ruling.LOST) from error

    async def close(self) -> None:
        """See `Candidate`."""
        if self._session is not None:
            await self._session.close()

    def _sent(self, request: Request) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, ssl=self._context, keepalive_timeout=15
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(),
            )
            self._session._retry_connection = False  # noqa: SLF001  there is no public switch
        headers = {"accept-encoding": "identity", **request.headers}
        url = URL(str(request.url))
        return self._session.request(
            request.method, url, headers=headers, data=request.body, allow_redirects=False
        )


class Pyreqwest:
    """Rust's reqwest."""

    def __init__(self, tls: Tls | None, connections: int) -> None:
        builder = (
            ClientBuilder().max_connections(connections).pool_idle_timeout(timedelta(seconds=15))
        )
        builder = (
            builder.follow_redirects(False)
            .no_proxy()
            .gzip(False)
            .deflate(False)
            .brotli(False)
            .zstd(False)
        )
        builder = builder.referer(False).http1_ignore_invalid_headers_in_responses(True)
        builder = builder.http1_allow_obsolete_multiline_headers_in_responses(True)
        builder = builder.http1_allow_spaces_after_header_name_in_responses(True)
        if tls and tls.ca_file:
            builder = builder.add_root_certificate_pem(tls.ca_file.read_bytes())
        if tls and tls.cert_file and tls.key_file:
            builder = builder.identity_pem(tls.cert_file.read_bytes() + _unlocked(tls))
        self._client: Client = builder.build()

    async def exchange(
        self, request: Request, seconds: float, limit: int = RESPONSE_LIMIT
    ) -> Reply:
        """See `Candidate`."""
        built = self._client.request(request.method, str(request.url)).headers(
            dict(request.headers)
        )
        built = (
            built.header("accept-encoding", "identity")
            .body_bytes(request.body)
            .timeout(timedelta(seconds=seconds))
        )
        try:
            async with built.build_streamed() as response:
                body = b""
                while len(body) <= limit and (chunk := await response.body_reader.read_chunk()):
                    body += bytes(chunk)
                return Reply(response.status, _fields(response.headers), body[:limit])
        except (
            exceptions.ConnectError,
            exceptions.ConnectTimeoutError,
            exceptions.BuilderError,
        ) as error:
            raise Undone(type(error).__name__, Ruling.FAILED) from error
        except exceptions.PyreqwestError as error:
            raise Undone(type(error).__name__, Ruling.LOST) from error

    async def close(self) -> None:
        """See `Candidate`."""
        await self._client.close()


def _fields(headers: Mapping[str, str]) -> Fields:
    return Fields("\n" + "".join(f"{name}: {value}\n" for name, value in headers.items()))


def _unlocked(tls: Tls) -> bytes:
    """The key without its password: reqwest takes none that has one."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  for this client alone
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    password = tls.key_password.get_secret_value().encode() if tls.key_password else None
    key = load_pem_private_key(Path(tls.key_file or "").read_bytes(), password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CANDIDATES: Mapping[str, Callable[[Tls | None, int], Candidate]] = {
    "ours": Ours,
    "ours, httptools": lambda tls, connections: Ours(tls, connections, ParsedByLlhttp),
    "aiohttp": Aiohttp,
    "pyreqwest": Pyreqwest,
}
