"""A server that speaks just enough of MongoDB's wire protocol to say what servers say that cannot
run here.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/: OP_MSG, and OP_QUERY for a
driver's first words.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_BODY = 0

Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]
HELLO: Mapping[str, Any] = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "setName": "rs0",
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48 * 2**20,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "logicalSessionTimeoutMinutes": 30,
}
WRITTEN = {"n": 1, "nModified": 1}
NOTHING_FOUND = {"cursor": {"id": 0, "ns": "ledger.any", "firstBatch": []}}


@asynccontextmanager
async def serving(answers: Mapping[str, Answer]) -> AsyncIterator[str]:
    """The URL of a server that answers `hello` as a primary, writes as done, finds nothing, and
    whatever `answers` says otherwise.

    `answers`: command → its answer, or what makes it; an answer with a `code` is an error.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, request, _, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
                command = _command(kind, await reader.readexactly(length - _HEADER.size))
                writer.write(_reply(kind, request, _answer(answers, command, address)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    address = f"{host}:{port}"
    try:
        yield f"mongodb://{address}/ledger?directConnection=true"
    finally:
        server.close()


def _answer(
    answers: Mapping[str, Answer], command: Mapping[str, Any], address: str
) -> Mapping[str, Any]:
    name = next(iter(command))
    greets = name.lower() in {"hello", "ismaster"}
    known = answers.get("hello" if greets else name, {})
    said = known(command) if callable(known) else known
    plain: Mapping[str, Any] = NOTHING_FOUND if name == "find" else WRITTEN
    if greets:
        plain = {**HELLO, "hosts": [address], "me": address, "primary": address}
    return {"ok": 0.0, **said} if "code" in said else {"ok": 1.0, **plain, **said}


def _command(kind: int, body: bytes) -> Mapping[str, Any]:
    if kind == _OP_QUERY:
        start = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[start : start + _length(body, start)])
    if kind != _OP_MSG or body[4] != _BODY:
        raise ConnectionError(f"a message of kind {kind}")
    return bson.decode(body[5 : 5 + _length(body, 5)])


def _length(body: bytes, start: int) -> int:
    return int(struct.unpack_from("<i", body, start)[0])


def _reply(kind: int, request: int, answer: Mapping[str, Any]) -> bytes:
    document = bson.encode(answer)
    if kind == _OP_QUERY:
        payload, kind = struct.pack("<iqii", 8, 0, 0, 1) + document, _OP_REPLY
    else:
        payload = struct.pack("<iB", 0, _BODY) + document
    return _HEADER.pack(_HEADER.size + len(payload), request + 1, request, kind) + payload
