"""The HTTP clients that could send rows to partners, side by side: what each costs, and which
partners it can bear.

    python -m bench.clients [--requests 5000] [--rounds 5] [--only NAME ...]     CPU µs a request
    python -m bench.clients --zoo [--only NAME ...]     the manners of tests/support/zoo_manners.py
    python -m bench.clients --job [--rows 1000]                                  delivering logged rows (bench.row_cost)

One worker process on uvloop, 100 requests in flight over loopback to the lean partner
(bench.partner), rows of 500 bytes. `bare socket` reads and understands nothing: what no client can
go below. Rounds are interleaved; medians, and the ratio to ours from the same rounds. CPU is that
of the process, its threads included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import cast
from unittest.mock import patch

import uvloop
from pydantic import SecretStr

from app.core.attempts import Ruling
from app.core.url import parse_url
from app.feeds.partner import Tls
from app.partner.content import Unreadable, unwrapped
from app.partner.exchange import Reply, Request
from app.partner.failures import Undone
from bench import row_cost
from bench.candidates import CANDIDATES, Candidate
from bench.scene import announced
from tests.support.zoo import LIMIT, Credentials, Seen, visit
from tests.support.zoo_manners import manners
from tests.support.zoo_tls import issue

IN_FLIGHT = 100
BODY = b'{"id":1,"text":"' + b"x" * 480 + b'"}'
SLACK_SECONDS = 0.1
"""By which a deadline may be missed."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--job", action="store_true")
    parser.add_argument("--requests", type=int, default=5000, help="a round")
    parser.add_argument("--rows", type=int, default=1000, help="a round, with --job")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    options = parser.parse_args()
    if options.zoo:
        for name in options.only:
            _print_zoo(name, uvloop.run(_visit_all(name)))
    elif options.job:
        for name in options.only:
            _print_job(name, options)
    else:
        with (
            tempfile.TemporaryDirectory() as directory,
            announced("bench.partner", Path(directory)) as (_, url),
        ):
            _print_costs(uvloop.run(_measure(options, f"{url}/v1/orders")))


# --- CPU a request


async def _measure(options: argparse.Namespace, url: str) -> dict[str, list[float]]:
    """CPU µs a request, by client and round. The first round is not counted."""
    costs: dict[str, list[float]] = {}
    candidates = {name: CANDIDATES[name](None, IN_FLIGHT) for name in options.only}
    for number in range(options.rounds + 1):
        rounds = {
            name: await _cost(_poster(candidate, url), options.requests)
            for name, candidate in candidates.items()
        }
        rounds["bare socket"] = await _bare(url, options.requests)
        for name, cost in rounds.items():
            if number:
                costs.setdefault(name, []).append(cost)
    for candidate in candidates.values():
        await candidate.close()
    return costs


def _poster(candidate: Candidate, url: str) -> Callable[[int], Awaitable[None]]:
    target = parse_url(url)

    async def post(number: int) -> None:
        headers = {
            "content-type": "application/json",
            "idempotency-key": f"orders:{time.time_ns()}:{number}",
        }
        reply = await candidate.exchange(Request("POST", target, headers, BODY), 10.0)
        assert reply.status == 200

    return post


async def _cost(post: Callable[[int], Awaitable[None]], requests: int) -> float:
    numbers = iter(range(requests))

    async def lane() -> None:
        for number in numbers:
            await post(number)

    before = time.process_time()
    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))
    return (time.process_time() - before) / requests * 1e6


class _Bare(asyncio.Protocol):
    """Writes the same request whenever something comes."""

    def __init__(self, wire: bytes, left: list[int], done: asyncio.Future[None]) -> None:
        self._wire, self._left, self._done = wire, left, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._transport.write(self._wire)

    def data_received(self, _data: bytes) -> None:
        self._left[0] -= 1
        if self._left[0] > 0:
            self._transport.write(self._wire)
        elif not self._done.done():
            self._done.set_result(None)


async def _bare(url: str, requests: int) -> float:
    target, loop = parse_url(url), asyncio.get_running_loop()
    wire = Request(
        "POST", target, {"content-type": "application/json", "idempotency-key": "orders:1"}, BODY
    )
    left, done = [requests], loop.create_future()
    before = time.process_time()
    transports = [
        (
            await loop.create_connection(
                lambda: _Bare(wire.head() + BODY, left, done), target.host, target.port
            )
        )[0]
        for _ in range(IN_FLIGHT)
    ]
    await done
    for transport in transports:
        transport.abort()
    return (time.process_time() - before) / requests * 1e6


def _print_costs(costs: dict[str, list[float]]) -> None:
    ours = costs.get("ours")
    print(f"{'client':<20}{'µs a request':>14}{'least to most':>18}{'÷ ours':>10}")
    for name, rounds in costs.items():
        ratio = (
            statistics.median(cost / base for cost, base in zip(rounds, ours, strict=True))
            if ours
            else 0.0
        )
        spread = f"{min(rounds):.0f} to {max(rounds):.0f}"
        print(f"{name:<20}{statistics.median(rounds):>14.1f}{spread:>18}{ratio:>10.2f}")


# --- the zoo


class _Visitor:
    """A candidate as the zoo uses clients."""

    def __init__(self, name: str, credentials: Credentials) -> None:
        password = credentials.key_password
        tls = Tls(
            ca_file=credentials.ca,
            cert_file=credentials.certificate,
            key_file=credentials.key,
            key_password=SecretStr(password) if password else None,
        )
        self._candidate = CANDIDATES[name](tls, 10)

    async def send(self, url: str, body: bytes, seconds: float) -> Seen:
        headers = {"content-type": "application/json", "idempotency-key": "orders:1"}
        request = Request("POST", parse_url(url), headers, body, connect_seconds=20.0)
        try:
            # No client may hang the zoo; ours has its own deadline.
            async with asyncio.timeout(min(seconds, 5.0) + 1.0):
                reply = await self._candidate.exchange(request, min(seconds, 5.0), LIMIT)
        except Undone as error:
            return Seen(None, maybe=error.ruling is Ruling.LOST, error=str(error))
        except Exception as error:  # noqa: BLE001  whatever a client raises is what is compared
            return Seen(None, maybe=True, error=f"raised {type(error).__name__}")
        return Seen(reply.status, _readable(reply), error=reply.note or "")

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                await self._candidate.close()


def _readable(reply: Reply) -> bytes:
    try:
        return unwrapped(reply.headers, reply.body, LIMIT)
    except Unreadable as error:
        return f"({error})".encode()


async def _visit_all(name: str) -> list[tuple[str, Sequence[str]]]:
    with tempfile.TemporaryDirectory() as directory:
        certificates = issue(Path(directory))
        found: list[tuple[str, Sequence[str]]] = []
        for manner in manners():
            wrong = await visit(
                manner, certificates, lambda credentials: _Visitor(name, credentials), SLACK_SECONDS
            )
            found.append((manner.name, wrong))
        return found


def _print_zoo(name: str, found: Sequence[tuple[str, Sequence[str]]]) -> None:
    failed = [(manner, wrong) for manner, wrong in found if wrong]
    print(f"{name}: {len(found) - len(failed)} of {len(found)} manners")
    for manner, wrong in failed:
        print(f"  {manner}: {'; '.join(wrong)}")


# --- the job


def _print_job(name: str, options: argparse.Namespace) -> None:
    print(name)
    with _sending_with(name):
        row_cost.print_costs(options.rows, options.rounds)


@contextlib.contextmanager
def _sending_with(name: str) -> Iterator[None]:
    """Deliveries go out through a candidate."""
    opened: list[Candidate] = []

    async def exchange(
        _transport: object, request: Request, seconds: float, limit: int = LIMIT
    ) -> Reply:
        if not opened:
            opened.append(CANDIDATES[name](None, IN_FLIGHT))
        return await opened[0].exchange(request, seconds, limit)

    with patch("app.partner.client.exchange", exchange):
        yield


if __name__ == "__main__":
    main()
