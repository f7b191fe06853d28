"""Connections to partners: how long one serves, where a new one leads, and whom TLS trusts."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from app.core.url import Url, parse_url
from app.partner import kept
from app.partner.connection import Connection
from app.partner.dial import Address, Names, in_turns
from app.partner.exchange import Request, exchange
from app.partner.failures import Undone
from app.partner.transport import Transport
from tests.support.partners import KEPT, OK, Respond, raw_partner, read_request
from tests.support.wait import until
from tests.support.zoo import Credentials
from tests.support.zoo_client import OurClient


def answering(names: list[str], name: str, answer: bytes = OK) -> Respond:
    """Answers every row on a connection, and notes who did."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(f"{name} connected")
        while True:
            await read_request(reader)
            names.append(name)
            writer.write(answer)

    return respond


async def post(transport: Transport, url: Url, connect_seconds: float | None = None) -> int:
    request = Request("POST", url, {}, b"{}", connect_seconds)
    return (await exchange(transport, request, 20.0)).status


async def test_a_name_that_moves_is_followed_under_steady_traffic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "AGE_SECONDS", (0.1, 0.2))
    seen: list[str] = []
    async with (
        raw_partner(answering(seen, "old", KEPT)) as old,
        raw_partner(answering(seen, "new")) as new,
    ):
        leads_to = old

        async def ask(_names: Names, _place: tuple[str, int]) -> Sequence[Address]:
            return [(socket.AF_INET, ("127.0.0.1", parse_url(leads_to).port))]

        monkeypatch.setattr(Names, "_ask", ask)
        transport = Transport(None, 1)
        async with asyncio.timeout(30):
            while "new" not in seen:
                await post(transport, parse_url("http://partner.example/"))
                if seen.count("old") == 3:
                    leads_to = new
                await asyncio.sleep(0.01)
        await transport.close()
    assert seen.count("old") > seen.count("old connected")


async def test_an_answer_about_a_name_is_used_again_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def look_up(*place: object) -> object:
        asked.append(place)
        time.sleep(0.05)  # what a name server takes
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr("app.partner.dial._look_up", look_up)
    names = Names()
    found = await asyncio.gather(*(names.find("partner.example", 80) for _ in range(20)))
    assert [list(each) for each in found] == [[(socket.AF_INET, ("127.0.0.1", 80))]] * 20
    assert len(asked) == 1
    monkeypatch.setattr("app.partner.dial.NAMES_KEPT_SECONDS", -1.0)
    names = Names()
    for _ in range(2):
        await names.find("partner.example", 80)
    assert len(asked) == 3


async def test_names_whose_server_is_silent_keep_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, asked = threading.Event(), threading.Semaphore(0)

    def look_up(host: str, _port: int) -> object:
        if host.startswith("silent"):
            asked.release()
            found.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr("app.partner.dial._look_up", look_up)
    names = Names()
    silent = [
        asyncio.create_task(names.find(f"silent{number}.example", 80)) for number in range(20)
    ]
    try:
        for _ in silent:
            assert await asyncio.to_thread(asked.acquire, timeout=30)
        assert await names.find("partner.example", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]
        assert not any(task.done() for task in silent)
    finally:
        found.set()
        await asyncio.gather(*silent)


def test_families_take_turns() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    addresses: list[Address] = [
        (six, ("a", 1, 0, 0)),
        (six, ("b", 1, 0, 0)),
        (four, ("c", 1)),
        (six, ("d", 1, 0, 0)),
    ]
    assert [place[0] for _, place in in_turns(addresses)] == ["a", "c", "b", "d"]


async def test_a_connection_is_not_kept_for_longer_than_the_partner_says() -> None:
    seen: list[str] = []
    brief = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=1, max=100\r\n\r\n")
    async with raw_partner(answering(seen, "brief", brief)) as url:
        transport = Transport(None, 1)
        for _ in range(3):
            await post(transport, parse_url(url))
        await transport.close()
    assert seen.count("brief connected") == 3


async def test_a_request_that_waits_for_a_connection_too_long_was_never_sent() -> None:
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await asyncio.Event().wait()

    async with raw_partner(hang) as url:
        transport = Transport(None, 1)
        first = asyncio.create_task(post(transport, parse_url(url)))
        await arrived.wait()
        with pytest.raises(
            Undone, match=r"ConnectTimeout: no connection within partner\.connect_timeout"
        ) as caught:
            await post(transport, parse_url(url), connect_seconds=0.1)
        assert caught.value.ruling == "failed"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await transport.close()


async def test_a_client_that_is_closed_while_it_connects_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    looked_up, go_on = asyncio.Event(), asyncio.Event()
    async with raw_partner(answering(seen, "partner")) as url:

        async def find(_names: Names, _host: str, port: int) -> Sequence[Address]:
            looked_up.set()
            await go_on.wait()
            return [(socket.AF_INET, ("127.0.0.1", port))]

        monkeypatch.setattr(Names, "find", find)
        transport = Transport(None, 1)
        sending = asyncio.create_task(post(transport, parse_url(url)))
        await looked_up.wait()
        await transport.close()
        go_on.set()
        with pytest.raises(Undone, match="the client was closed"):
            await sending
    assert "partner" not in seen


# TLS


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_authorities_of_the_environment_are_trusted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    hashed = re.search(
        rb"(?m)^(\S+)$", await _openssl("x509", "-hash", "-noout", "-in", str(tmp_path / "ca.pem"))
    )
    assert hashed
    (tmp_path / f"{hashed[1].decode()}.0").symlink_to(tmp_path / "ca.pem")
    monkeypatch.setenv(name, str(tmp_path / "ca.pem" if name == "SSL_CERT_FILE" else tmp_path))
    server = await asyncio.start_server(answering([], "secure"), "127.0.0.1", 0, ssl=context)
    async with server:
        transport = Transport(None, 1)
        url = parse_url(f"https://localhost:{server.sockets[0].getsockname()[1]}/")
        assert await post(transport, url) == 200
        await transport.close()


async def test_a_partner_that_negotiates_anew_before_its_answer(tmp_path: Path) -> None:
    """With TLS 1.2, where a server may ask for it at any moment."""
    authority = trustme.CA()
    leaf, files = authority.issue_cert("localhost"), tmp_path / "server.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(files))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = await asyncio.create_subprocess_exec(
        _found_openssl(), "s_server", "-accept", "127.0.0.1:0", "-cert", str(files), "-key", str(files), "-tls1_2",
        "-client_renegotiation", "-crlf",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert server.stdin
    assert server.stdout
    try:
        while not (port := re.match(rb"ACCEPT .*:(\d+)", line := await server.stdout.readline())):
            assert line, "s_server ended"
        client = OurClient(Credentials(tmp_path / "ca.pem"))
        row = b'{"id":"the row"}'
        sending = asyncio.create_task(
            client.send(f"https://localhost:{port[1].decode()}/rows", row, 20.0)
        )
        while row not in await server.stdout.readuntil(b"}"):
            pass
        server.stdin.write(b"r\n")
        await server.stdin.drain()
        await asyncio.sleep(0.2)  # s_server reads commands one read at a time
        server.stdin.write(b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}\n")
        await server.stdin.drain()
        seen = await sending
        await client.close()
    finally:
        server.kill()
        await server.communicate()
    assert (seen.verdict, seen.body) == ("200", b"{}")


def _found_openssl() -> str:
    found = shutil.which("openssl")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is not installed")
        pytest.skip("openssl is not installed")
    return found


async def _openssl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        _found_openssl(), *arguments, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0]


async def test_a_request_whose_turn_comes_as_the_other_side_closes_goes_over_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end was read, and the connection is told of its loss only later in the same round of the loop."""
    seen: list[str] = []
    second: list[asyncio.Task[int]] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("connected")
        await read_request(reader)
        writer.write(KEPT)
        await writer.drain()
        writer.close()

    async with raw_partner(respond) as url:
        transport, ended = Transport(None, 2), Connection.eof_received

        def eof_received(self: Connection) -> None:
            if not second:
                second.append(asyncio.ensure_future(post(transport, parse_url(url))))
            ended(self)

        monkeypatch.setattr(Connection, "eof_received", eof_received)
        try:
            assert await post(transport, parse_url(url)) == 200
            await until(lambda: second, message="the end of the first connection")
            assert await second[0] == 200
        finally:
            await transport.close()
    assert seen == ["connected"] * 2
