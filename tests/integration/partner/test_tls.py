"""TLS: the partner's certificate is always verified, and ours is shown where the feed has one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from app.core.attempts import Ruling
from app.core.errors import ConfigError
from app.partner.request import prepare
from tests.support.partners import feed_to, send_once


class Authority:
    """A certificate authority, and what it signed, as files."""

    def __init__(self, place: Path) -> None:
        self.issuer = trustme.CA()
        self.file = place / "ca.pem"
        self.issuer.cert_pem.write_to_path(str(self.file))
        client = self.issuer.issue_cert("rowrelay@client.example")
        self.certificate, self.key = place / "client.pem", place / "client.key"
        self.certificate.write_bytes(b"".join(part.bytes() for part in client.cert_chain_pems))
        self.key.write_bytes(client.private_key_pem.bytes())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def secure_partner(
    authority: Authority, host: str = "localhost", *, mutual: bool = False
) -> AsyncIterator[str]:
    """A partner with a certificate for `host`; with `mutual`, it wants one of ours. Yields its URL
    at localhost.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issuer.issue_cert(host).configure_cert(context)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.issuer.configure_trust(context)

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="{}")

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_certificate_that_nobody_vouches_for_is_refused_with_the_reason(
    authority: Authority,
) -> None:
    async with secure_partner(authority) as url:
        answer = await send_once(feed_to(url))
    assert str(answer.error).startswith("TLSError: ")
    assert "certificate verify failed" in str(answer.error)
    assert answer.ruling is Ruling.FAILED  # nothing was sent


async def test_a_private_authority_that_the_feed_names_is_trusted(authority: Authority) -> None:
    async with secure_partner(authority) as url:
        answer = await send_once(feed_to(url, tls={"ca_file": str(authority.file)}))
    assert (answer.status, answer.error) == (200, None)


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    async with secure_partner(authority, "elsewhere.example") as url:
        answer = await send_once(feed_to(url, tls={"ca_file": str(authority.file)}))
    assert "certificate verify failed" in str(answer.error)


async def test_our_certificate_opens_a_partner_that_asks_for_one(authority: Authority) -> None:
    ours = {"cert_file": str(authority.certificate), "key_file": str(authority.key)}
    async with secure_partner(authority, mutual=True) as url:
        without = await send_once(feed_to(url, tls={"ca_file": str(authority.file)}))
        answer = await send_once(feed_to(url, tls={"ca_file": str(authority.file), **ours}))
    assert without.status is None
    assert without.error
    assert (answer.status, answer.error) == (200, None)


async def test_a_key_may_have_a_password(authority: Authority) -> None:
    key = load_pem_private_key(authority.key.read_bytes(), None)
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    )
    authority.key.write_bytes(encrypted)
    ours = {
        "cert_file": str(authority.certificate),
        "key_file": str(authority.key),
        "key_password": "open sesame",
    }
    async with secure_partner(authority, mutual=True) as url:
        answer = await send_once(feed_to(url, tls={"ca_file": str(authority.file), **ours}))
        with pytest.raises(ConfigError, match=r"feeds\.orders\.partner\.tls"):
            prepare(feed_to(url, tls={**ours, "key_password": "wrong"}))
        with pytest.raises(ConfigError, match=r"feeds\.orders\.partner\.tls"):
            prepare(
                feed_to(
                    url, tls={name: value for name, value in ours.items() if name != "key_password"}
                )
            )
    assert answer.status == 200


def test_authorities_of_the_environment_that_cannot_be_read_are_told_when_the_feed_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE: found No such file"):
        prepare(feed_to("https://partner.example"))


@pytest.mark.parametrize("field", ["ca_file", "cert_file"])
def test_a_file_that_cannot_be_read_is_told_when_the_feed_is_loaded(
    field: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"feeds\.orders\.partner\.tls: found No such file"):
        prepare(feed_to("https://partner.example", tls={field: str(tmp_path / "none.pem")}))
