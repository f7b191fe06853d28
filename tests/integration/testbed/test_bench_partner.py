"""The benchmark's partner counts right, however the bytes of a request arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from bench.partner import Connection, Partner

ROW = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: orders:%d\r\nContent-Length: 5\r\n\r\n12\r\n3"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    partner = Partner()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(partner), "127.0.0.1", 0
    )
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> Any:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 ok\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return orjson.loads(await reader.readexactly(length))


async def test_requests_in_pieces_and_several_at_once_are_each_counted_once() -> None:
    async with connected() as (reader, writer):
        for byte in ROW % 1:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await answer(reader) == {"accepted": True}
        writer.write(ROW % 2 + ROW % 2)
        assert [await answer(reader), await answer(reader)] == [{"accepted": True}] * 2
        writer.write(b"GET /_bench/counts HTTP/1.1\r\n\r\n")
        assert await answer(reader) == {
            "requests": 3,
            "unique": 2,
            "bytes": 3 * len(ROW % 1),
            "last": ["orders:2", "orders:1"],
        }
        writer.write(b"PUT /_bench/delay/0/0 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        await answer(reader)
        writer.write(b"GET /_bench/counts HTTP/1.1\r\n\r\n")
        assert await answer(reader) == {"requests": 0, "unique": 0, "bytes": 0, "last": []}


async def test_whoever_waits_is_told_when_the_rows_are_there_or_the_time_is_over() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET /_bench/wait/1/10 HTTP/1.1\r\n\r\n")
        assert (await answer(reader))["unique"] == 0
        writer.write(b"GET /_bench/wait/1/60000 HTTP/1.1\r\n\r\n" + ROW % 7)
        told = [await answer(reader), await answer(reader)]
        seen = {"requests": 1, "unique": 1, "bytes": len(ROW % 7), "last": ["orders:7"]}
        assert seen in told
        assert {"accepted": True} in told
