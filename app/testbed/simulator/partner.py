"""A partner over real HTTP that can be told to fail, and that counts what reached it.

    python -m app.testbed.simulator.partner --port 0 --faults mild --seed 7

Any path is the partner's endpoint, any method a delivery, but for `POST /oauth/token`, which gives
out access tokens, and `GET /status/<Idempotency-Key>`, which says 200 or 404. Paths under
`/_simulator/` are for whoever runs it:

    GET  /_simulator/counts   what arrived, as one JSON object
    GET  /_simulator/arrivals when the last requests arrived: seconds since 1970, oldest first
    GET  /_simulator/keys     every accepted Idempotency-Key with how often it was accepted, one JSON object a line
    PUT  /_simulator/faults   replace the faults: the JSON form of `Faults`; what it leaves out is 0
    POST /_simulator/reset    forget every count, key and the faults dealt out; the random sequence goes on

Memory: one dictionary entry an accepted key, and the last `ARRIVALS_KEPT` arrivals.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import sys
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import orjson
from aiohttp import web
from pydantic import ValidationError

from app.testbed.simulator.faults import PRESETS, Fault, Faults
from app.testbed.simulator.issuer import Issuer

CONTROL = "/_simulator/"
ARRIVALS_KEPT = 20_000
STATUS = "/status/"
TOKEN = "/oauth/token"  # noqa: S105  a path

_OK = b'{"accepted":true}'
_LAST_WORDS = {
    Fault.CUT: b"",
    Fault.LOST_ANSWER: b"",
    Fault.CUT_ANSWER: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbroken o",
    Fault.TWICE: 2 * b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    Fault.GARBAGE: b"\x16\x03\x01 this is not HTTP \xff\xfe\r\n\r\n",
}
"""What is written before the connection is closed; after two answers it is left to the client."""
_ENDLESS = {Fault.DRIP: (b".", 0.02), Fault.FLOOD: (bytes(64 * 1024), 0.0)}
"""What is written again and again, and the seconds between."""
_SHUTDOWN_SECONDS = 0.1


class Simulator:
    """The partner: what it does wrong, and what it has seen. Used on one event loop."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.url = ""
        """Where it listens; without a path."""
        self.accepted_keys: dict[str, int] = {}
        """Each accepted Idempotency-Key and how often it was accepted."""
        self.issuer = Issuer()
        """Who gives out access tokens; deliveries need none until its `required` is set."""
        self.asked: list[str] = []
        """The keys that were asked for under `/status/`."""
        self._random = random.Random(seed)
        self._clear()
        self.use(faults)

    def use(self, faults: Faults) -> None:
        """Take other faults from the next request on; their `limit` counts from here."""
        self.faults = faults
        self._faulty = 0
        self._overloaded_until = 0.0
        shares = list(faults.shares())
        self._choices = [fault for fault, _ in shares]
        self._bounds = list(accumulate(share for _, share in shares))

    def counts(self) -> dict[str, object]:
        """What arrived since the start or the last reset."""
        unique = len(self.accepted_keys)
        return {
            "requests": self._requests,
            "accepted": self._accepted,
            "unique": unique,
            "duplicates": self._accepted - self._keyless - unique,
            "keyless": self._keyless,
            "by_status": {str(status): count for status, count in sorted(self._by_status.items())},
            "by_fault": {str(fault): count for fault, count in sorted(self._by_fault.items())},
        }

    def reset(self) -> None:
        """Forget what arrived."""
        self._clear()
        self.use(self.faults)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, or fail to, as the faults say."""
        if request.path.startswith(CONTROL):
            return await self._control(request)
        if request.path == TOKEN:
            return await self.issuer.answer(request)
        if request.path.startswith(STATUS):
            return self._tell(request.path.removeprefix(STATUS))
        if not request.content.is_eof():
            await _drain(request)
        self._requests += 1
        self._arrivals.append(time.time())
        if not self.issuer.accepts(request):
            return self._status(request, 401)
        chosen = self._choose()
        if isinstance(chosen, Fault):
            return await self._fail(request, chosen)
        return self._status(request, chosen)

    def _clear(self) -> None:
        self.accepted_keys.clear()
        self._arrivals: deque[float] = deque(maxlen=ARRIVALS_KEPT)
        self._requests = self._accepted = self._keyless = 0
        self._by_status: Counter[int] = Counter()
        self._by_fault: Counter[Fault] = Counter()

    def _tell(self, key: str) -> web.Response:
        """Whether a row was accepted under the key."""
        self.asked.append(key)
        return web.Response(status=200 if key in self.accepted_keys else 404)

    def _choose(self) -> int | Fault:
        """A fault by its share, or 200."""
        if time.monotonic() < self._overloaded_until:
            return Fault.OVERLOAD
        if not self._choices or self._faulty == self.faults.limit:
            return 200
        place = bisect_right(self._bounds, self._random.random())
        if place == len(self._choices):
            return 200
        self._faulty += 1
        return self._choices[place]

    def _overload(self) -> web.Response:
        """A 429 with what remains of the episode; the first begins it."""
        now = time.monotonic()
        if now >= self._overloaded_until:
            self._overloaded_until = now + self._random.uniform(*self.faults.overload_seconds)
        self._by_status[429] += 1
        remaining = math.ceil(self._overloaded_until - now)
        return web.Response(
            status=429, headers={"Retry-After": str(remaining)}, text="simulated overload"
        )

    def _accept(self, request: web.BaseRequest) -> None:
        """Count the row as taken; `keyless` are accepted requests that no key names."""
        self._accepted += 1
        key = request.headers.get("Idempotency-Key")
        if key is None:
            self._keyless += 1
        else:
            self.accepted_keys[key] = self.accepted_keys.get(key, 0) + 1

    def _status(self, request: web.BaseRequest, status: int) -> web.Response:
        self._by_status[status] += 1
        if 200 <= status <= 299:
            self._accept(request)
            return web.Response(status=status, body=_OK, content_type="application/json")
        headers = (
            {"Retry-After": self.faults.retry_after}
            if status == 429 and self.faults.retry_after
            else {}
        )
        if 300 <= status <= 399:
            headers["Location"] = f"{self.url}/elsewhere"
        return web.Response(status=status, headers=headers, text=f"simulated {status}")

    async def _fail(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        """Do what `fault` says; each is described at `Fault`."""
        self._by_fault[fault] += 1
        if fault in (Fault.LOST_ANSWER, Fault.FLOOD, Fault.TWICE):
            self._accept(request)
        if fault is Fault.OVERLOAD:
            return self._overload()
        if fault in _LAST_WORDS:
            return await _end(request, _LAST_WORDS[fault], close=fault is not Fault.TWICE)
        if fault in _ENDLESS:
            return await _endless(request, *_ENDLESS[fault])
        if fault is Fault.HANG:
            return await _until_gone()
        await asyncio.sleep(self._random.uniform(*self.faults.slow_seconds))
        return self._status(request, 200)

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path.removeprefix(CONTROL):
            case "GET", "counts":
                return _json(self.counts())
            case "GET", "arrivals":
                return _json(list(self._arrivals))
            case "GET", "keys":
                return await self._stream_keys(request)
            case "PUT", "faults":
                return self._replace_faults(await request.read())
            case "POST", "reset":
                self.reset()
                return _json(self.counts())
        return web.Response(status=404, text=f"{request.method} {request.path}: no such control\n")

    def _replace_faults(self, body: bytes) -> web.Response:
        try:
            self.use(Faults.model_validate_json(body))
        except ValidationError as error:
            return web.Response(status=400, text=f"{error}\n")
        return _json(self.faults.model_dump(mode="json"))

    async def _stream_keys(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for key in tuple(self.accepted_keys):
            line = orjson.dumps({"key": key, "count": self.accepted_keys.get(key, 0)})
            await response.write(line + b"\n")
        await response.write_eof()
        return response


@asynccontextmanager
async def serve(
    faults: Faults = PRESETS["none"], *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
) -> AsyncIterator[Simulator]:
    """Run a simulator on the current event loop, and stop it at the end, whatever hangs.

    `port` 0 takes a free one. Yields the simulator; its `url` says where it listens.
    Raises `OSError` where the address cannot be had.
    """
    simulator = Simulator(faults, seed)
    server = web.Server(
        simulator.answer, handler_cancellation=True, access_log=None, tcp_keepalive=False
    )
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        simulator.url = f"http://{host}:{runner.addresses[0][1]}"
        yield simulator
    finally:
        await runner.cleanup()


async def _drain(request: web.BaseRequest) -> None:
    async for _ in request.content.iter_any():
        pass


async def _until_gone() -> NoReturn:
    """Wait for the connection to be lost: the server then cancels this."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


async def _end(request: web.BaseRequest, last_words: bytes, *, close: bool) -> NoReturn:
    """Write bytes as they are, and say no more on the connection."""
    if request.transport is not None:
        request.transport.write(last_words)
        if close:
            request.transport.close()
    await _until_gone()


async def _endless(request: web.BaseRequest, chunk: bytes, pause_seconds: float) -> NoReturn:
    """Answer 200, then write `chunk` again and again until the client goes away."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(chunk)
        await asyncio.sleep(pause_seconds)


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _announce(url: str, path: Path | None) -> None:
    """Say where the partner listens: one line on standard output, or a file that is never seen
    half-written.
    """
    if path is None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        return
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(f"{url}\n", encoding="utf-8")
    draft.replace(path)


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(
        PRESETS[options.faults], host=options.host, port=options.port, seed=options.seed
    ) as simulator:
        _announce(simulator.url, options.announce)
        await stop.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app.testbed.simulator.partner", description="A partner that can fail."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--faults", choices=PRESETS, default="none")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed deals out the same faults"
    )
    parser.add_argument(
        "--announce", type=Path, metavar="FILE", help="write the URL there, not on standard output"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Exits with 0."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(_options(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    main()
