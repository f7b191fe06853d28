"""What is asked at the same time goes in one command, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest
from bson.errors import InvalidDocument

from app.ledger.together import MOST, Together
from tests.support.wait import until

PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Server:
    """Answers with the squares of numbers, once it is let."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.places: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.together: Together[int, int] = Together(self._squares)

    async def _squares(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.asked.append(list(numbers))
        self.places.append(PLACE.get())
        await asyncio.sleep(0)
        await self.open.wait()
        if 13 in numbers:
            raise InvalidDocument("no form for 13")
        if 17 in numbers:
            raise ConnectionError("away")
        return [KeyError(number) if number == 19 else number * number for number in numbers]

    def ask(self, *numbers: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.together.ask(number)) for number in numbers]

    async def until_asked(self, times: int) -> None:
        await until(lambda: len(self.asked) >= times, message="the question")


async def test_who_asks_alone_is_answered_at_once() -> None:
    server = Server()
    assert [await server.together.ask(2), await server.together.ask(3)] == [4, 9]
    assert server.asked == [[2], [3]]


async def test_what_is_asked_at_once_goes_together_but_for_the_first() -> None:
    server = Server()
    assert await asyncio.gather(*server.ask(5, 2, 3, 2)) == [25, 4, 9, 4]
    assert server.asked == [[5], [2, 3, 2]]


async def test_what_comes_while_one_is_on_its_way_goes_in_the_next() -> None:
    server = Server()
    server.open.clear()
    first = server.ask(2)
    await server.until_asked(1)
    others = server.ask(3, 4, 5)
    await asyncio.sleep(0)
    server.open.set()
    assert await asyncio.gather(*first, *others) == [4, 9, 16, 25]
    assert server.asked == [[2], [3, 4, 5]]


async def test_a_command_is_bounded() -> None:
    server = Server()
    numbers = [20] * (MOST + 2)
    assert await asyncio.gather(*server.ask(*numbers)) == [400] * (MOST + 2)
    assert [len(asked) for asked in server.asked] == [1, MOST, 1]


async def test_what_has_no_form_is_its_own_fault_alone() -> None:
    server = Server()
    found = await asyncio.gather(*server.ask(1, 2, 13, 3), return_exceptions=True)
    assert [found[0], found[1], found[3]] == [1, 4, 9]
    assert isinstance(found[2], InvalidDocument)
    assert server.asked == [[1], [2, 13, 3], [2], [13], [3]]
    with pytest.raises(InvalidDocument):
        await server.together.ask(13)
    assert await server.together.ask(2) == 4


async def test_an_error_of_one_is_raised_to_it_alone() -> None:
    server = Server()
    found = await asyncio.gather(*server.ask(1, 2, 19, 3), return_exceptions=True)
    assert [found[0], found[1], found[3]] == [1, 4, 9]
    assert isinstance(found[2], KeyError)
    with pytest.raises(KeyError):
        await server.together.ask(19)


async def test_a_server_that_is_away_is_away_for_all_and_is_asked_again_after() -> None:
    server = Server()
    found = await asyncio.gather(*server.ask(1, 2, 17), return_exceptions=True)
    assert [type(error) for error in found[1:]] == [ConnectionError, ConnectionError]
    assert server.asked == [[1], [2, 17]], "each by itself would find it away again"
    assert await server.together.ask(2) == 4


async def test_who_is_cancelled_takes_nobody_along() -> None:
    server = Server()
    server.open.clear()
    first, second = server.ask(2, 3)
    await server.until_asked(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.open.set()
    assert await second == 9
    assert await server.together.ask(4) == 16


async def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    server = Server()
    server.open.clear()
    first = server.ask(2)
    await server.until_asked(1)
    second, third = server.ask(3, 4)
    await asyncio.sleep(0)
    second.cancel()
    server.open.set()
    assert await asyncio.gather(*first, third) == [4, 16]
    assert server.asked == [[2], [4]]


async def test_a_command_is_traced_as_part_of_what_asked_first() -> None:
    server, asked = Server(), []
    for place in ("here", "there", "elsewhere"):
        PLACE.set(place)
        asked += server.ask(2)
    await asyncio.gather(*asked)
    assert server.places == ["here", "there"]


async def test_who_asks_alone_and_is_cancelled_leaves_the_way_free() -> None:
    server = Server()
    server.open.clear()
    first, second = server.ask(2, 3)
    await server.until_asked(1)
    first.cancel()
    await until(lambda: len(server.asked) == 2, message="the next question")
    server.open.set()
    assert await second == 9


def test_a_loop_that_ended_leaves_the_next_one_free() -> None:
    async def begin() -> Server:
        server = Server()
        server.open.clear()
        server.ask(2)
        await server.until_asked(1)
        return server

    async def go_on(server: Server) -> int:
        server.open = asyncio.Event()
        server.open.set()
        return await server.together.ask(3)

    assert asyncio.run(go_on(asyncio.run(begin()))) == 9
