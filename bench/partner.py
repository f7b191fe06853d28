"""A partner that costs as little as Python allows, so that it is not what limits a benchmark.

    python -m bench.partner --announce FILE

Every request is a delivery, and is answered 200, at once or after the delay that was asked for, but
for these:

    PUT /_bench/delay/<ms>/<first>     answer after so many milliseconds from now on, and forget what arrived; a key
                                       of a lower number than the first is a request, and none of
                                       the rows
    GET /_bench/counts                 {"requests", "unique", "bytes": received, "last": [the keys that arrived
                                       last, at most 200]}
    GET /_bench/wait/<unique>/<ms>     the same, once so many unique keys have arrived, or after so many milliseconds
    GET /_bench/arrivals               {key: when it first arrived, in seconds since 1970}

The parser knows what the benchmark's clients send: whole headers, then a body of `Content-Length`
bytes. The demo's partner, `app/testbed/simulator/partner.py`, does far more with a request: a bare
loop would measure it, not the client.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from itertools import islice
from pathlib import Path
from typing import cast

import orjson
import uvloop

LAST_KEYS = 200
"""Keys that `counts` names: at least as many as a contestant has in flight."""

_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"accepted":true}'
_LENGTH, _KEY = b"\r\ncontent-length:", b"\r\nidempotency-key:"
_CONTROL = b" /_bench/"


class Partner:
    """What arrived, and how to answer."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.requests = 0
        self.bytes = 0
        self.first = 0
        self.arrived: dict[bytes, float] = {}
        self._waiting: list[tuple[int, asyncio.Transport]] = []
        self._wanted = float("inf")

    def take(self, key: bytes) -> None:
        """Note a delivery."""
        self.requests += 1
        if key not in self.arrived and (
            not self.first or int(key.rpartition(b":")[2]) >= self.first
        ):
            self.arrived[key] = time.time()
            if len(self.arrived) >= self._wanted:
                self._answer_waiting()

    def control(self, method: bytes, path: list[str], transport: asyncio.Transport) -> None:
        """Answer whoever runs the benchmark."""
        match method, path:
            case b"PUT", ["delay", ms, first]:
                self.delay_s, self.first = float(ms) / 1000, int(first)
                self.requests = self.bytes = 0
                self.arrived.clear()
                _write(transport, {})
            case b"GET", ["counts"]:
                _write(transport, self._counts())
            case b"GET", ["wait", unique, ms]:
                self._wait(int(unique), float(ms) / 1000, transport)
            case b"GET", ["arrivals"]:
                _write(transport, {key.decode(): at for key, at in self.arrived.items()})
            case _:
                transport.close()

    def _counts(self) -> dict[str, object]:
        last = [key.decode() for key in islice(reversed(self.arrived), LAST_KEYS)]
        return {
            "requests": self.requests,
            "unique": len(self.arrived),
            "bytes": self.bytes,
            "last": last,
        }

    def _wait(self, unique: int, seconds: float, transport: asyncio.Transport) -> None:
        self._waiting.append((unique, transport))
        self._wanted = min(wanted for wanted, _ in self._waiting)
        if len(self.arrived) >= unique:
            self._answer_waiting()
        else:
            asyncio.get_running_loop().call_later(seconds, self._give_up, (unique, transport))

    def _give_up(self, waiting: tuple[int, asyncio.Transport]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            _write(waiting[1], self._counts())
            self._wanted = min((wanted for wanted, _ in self._waiting), default=float("inf"))

    def _answer_waiting(self) -> None:
        waiting, self._waiting, self._wanted = self._waiting, [], float("inf")
        for _, transport in waiting:
            _write(transport, self._counts())


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, partner: Partner) -> None:
        self._partner = partner
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower() + b"\r\n"
            whole = end + 4 + int(_header(head, _LENGTH) or 0)
            if len(self._buffer) < whole:
                return
            original, self._buffer = self._buffer[:end] + b"\r\n", self._buffer[whole:]
            self._answer(head, original, whole)

    def _answer(self, head: bytes, original: bytes, size: int) -> None:
        assert self._transport is not None
        line = original[: original.find(b"\r\n")]
        if _CONTROL in line:
            method, path, _ = line.split(b" ")
            self._partner.control(method, path.decode().split("/")[2:], self._transport)
            return
        self._partner.bytes += size
        start = head.find(_KEY) + len(_KEY)
        self._partner.take(original[start : original.find(b"\r\n", start)].strip())
        if self._partner.delay_s:
            asyncio.get_running_loop().call_later(self._partner.delay_s, self._transport.write, _OK)
        else:
            self._transport.write(_OK)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(name)
    return head[start + len(name) : head.find(b"\r\n", start + 2)] if start >= 0 else b""


def _write(transport: asyncio.Transport, value: object) -> None:
    body = orjson.dumps(value)
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def serve(announce: Path) -> None:
    """Listen on a free port of 127.0.0.1, write its URL to `announce`, and go on until SIGTERM."""
    loop, stop, partner = asyncio.get_running_loop(), asyncio.Event(), Partner()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(partner), "127.0.0.1", 0, backlog=1024)
    draft = announce.with_name(f"{announce.name}.new")
    draft.write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", encoding="utf-8")
    draft.replace(announce)
    await stop.wait()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--announce", type=Path, required=True, metavar="FILE", help="write the URL there"
    )
    uvloop.run(serve(parser.parse_args().announce))


if __name__ == "__main__":
    main()
