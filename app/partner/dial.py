"""Connects: looks up a host's addresses, takes the first that answers, and does TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import Any, TypeAlias

from app.core.url import Url
from app.partner.connection import Connection, Reader
from app.partner.failures import is_ours
from app.partner.incoming import Incoming

NAMES_KEPT_SECONDS = 5.0
"""How long a name's addresses are cached. Short, so that a name that moves is followed."""

NAMES_ASKED = 64
"""Names asked for at once. The loop's own threads are few, and a name whose server is silent holds
one for half a minute: a handful of such partners would keep all others from theirs."""

_ASKING = ThreadPoolExecutor(NAMES_ASKED, thread_name_prefix="rowrelay-names")

HEAD_START_SECONDS = 0.25
"""How long one address is tried alone before the next one is tried beside it (RFC 8305, section 5).
"""

Found: TypeAlias = Sequence[tuple[Any, Any, int, str, Any]]
"""As `socket.getaddrinfo` gives it."""

Address: TypeAlias = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""A family (`AF_…`) and what a socket of it connects to."""


class Names:
    """The addresses of names, asked for once for all who want the same. Used on one event loop."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[float, Sequence[Address]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[Sequence[Address]]] = {}

    async def find(self, host: str, port: int) -> Sequence[Address]:
        """The addresses, in the order in which to try them. Raises `OSError` (`socket.gaierror`)."""
        place, loop = (host, port), asyncio.get_running_loop()
        kept_until, found = self._found.get(place, (0.0, ()))
        if loop.time() < kept_until:
            return found
        asking = self._asking.get(place)
        if asking is None:
            asking = self._asking[place] = loop.create_task(self._ask(place))
            asking.add_done_callback(lambda task: self._asked(place, task))
        # Shielded: one request that is cancelled must not fail all the others that wait.
        return await asyncio.shield(asking)

    async def close(self) -> None:
        """Give up the look-ups under way."""
        for asking in (waiting := list(self._asking.values())):
            asking.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _asked(self, place: tuple[str, int], asking: asyncio.Task[Sequence[Address]]) -> None:
        self._asking.pop(place, None)
        if not asking.cancelled():
            asking.exception()  # told to whoever waits; nobody may

    async def _ask(self, place: tuple[str, int]) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        found = _literal(*place)
        if found is None:
            found = await loop.run_in_executor(_ASKING, partial(_look_up, *place))
        addresses = in_turns([(family, address) for family, _, _, _, address in found])
        self._found[place] = (loop.time() + NAMES_KEPT_SECONDS, addresses)
        return addresses


def _literal(host: str, port: int) -> Found | None:
    """A literal IP address, parsed; `None` for a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None


def _look_up(host: str, port: int) -> Found:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def in_turns(addresses: Sequence[Address]) -> Sequence[Address]:
    """The addresses with the families taking turns: one family may have no way out (RFC 8305,
    section 4).
    """
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    return [
        address for address in chain.from_iterable(zip_longest(first, other)) if address is not None
    ]


async def dial(
    url: Url, names: Names, context: ssl.SSLContext, reader: Reader = Incoming
) -> Connection:
    """A connection to where `url` leads. Raises `OSError`, among them `socket.gaierror` and
    `ssl.SSLError`.
    """
    sock = await _first_to_answer(await names.find(url.host, url.port))
    secure = url.scheme == "https"
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(sock, reader),
            sock=sock,
            ssl=context if secure else None,
            server_hostname=url.host.rstrip(".") if secure else None,
        )
    except BaseException:
        sock.close()
        raise
    return connection


async def _first_to_answer(addresses: Sequence[Address]) -> socket.socket:
    """A socket that is connected to one of the addresses. Raises `OSError`: the first one's, where
    all fail alike.
    """
    if len(addresses) == 1:
        return await _connected(addresses[0])
    waiting, failed = list(addresses), list[OSError]()
    trying: set[asyncio.Task[socket.socket]] = set()
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.create_task(_connected(waiting.pop(0))))
            done, trying = await asyncio.wait(
                trying,
                timeout=HEAD_START_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            sockets = [
                sock for task in done if isinstance(sock := _outcome(task, failed), socket.socket)
            ]
            for late in sockets[1:]:
                late.close()
            if sockets:
                return sockets[0]
    finally:
        await _give_up(trying)
    # That one family has no way out says nothing where the other one has.
    raise next((error for error in failed if not is_ours(error)), failed[0])


def _outcome(task: asyncio.Task[socket.socket], failed: list[OSError]) -> socket.socket | None:
    try:
        return task.result()
    except OSError as error:
        failed.append(error)
        return None


async def _give_up(trying: set[asyncio.Task[socket.socket]]) -> None:
    for task in trying:
        task.cancel()
    for outcome in await asyncio.gather(*trying, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()


async def _connected(address: Address) -> socket.socket:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock
