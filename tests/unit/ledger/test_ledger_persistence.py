"""What passes is asked again, within bounds: as the server says, or while long work lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo import errors as driver

from app.core.errors import LeaseLost, LedgerRefused, LedgerUnavailable
from app.ledger.client import query, query_once, translate
from app.ledger.persistence import TOLD_SECONDS, TOLD_TIMES, WAITS_SECONDS, counted, persistent
from tests.support.gateway import said

PASSES = driver.OperationFailure("killed", 11601)
REFUSED = driver.OperationFailure("no right", 13)
UNREACHABLE = driver.ServerSelectionTimeoutError("nobody there")


class Server:
    """Fails as it is told to, then answers; waits are noted and take no time."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.asked = 0
        self.waits: list[float] = []

    async def _answer(self) -> int:
        self.asked += 1
        if self._failures:
            raise self._failures.pop(0)
        return self.asked

    async def ask(self, decorated: Callable[[Any], Callable[[], Awaitable[int]]] = query) -> int:
        return await decorated(self._answer)()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def test_a_short_query_fails_at_once() -> None:
    server = Server(PASSES)
    with pytest.raises(LedgerUnavailable):
        await server.ask()
    assert server.asked == 1


async def test_long_work_goes_on_after_what_passes() -> None:
    server = Server(PASSES, PASSES)
    with persistent(sleep=server.sleep):
        assert await server.ask() == 3
    assert server.waits == list(WAITS_SECONDS[:2])
    with pytest.raises(LedgerUnavailable):
        await Server(PASSES).ask()


async def test_long_work_fails_after_the_last_wait_also_where_one_query_asks_another() -> None:
    server = Server(*[PASSES] * 100)
    with persistent(sleep=server.sleep), pytest.raises(LedgerUnavailable):
        await query(server.ask)()
    assert server.waits == list(WAITS_SECONDS)


@pytest.mark.parametrize(
    "failure", [REFUSED, driver.BulkWriteError({"writeErrors": [{"code": 121, "errmsg": ""}]})]
)
async def test_a_refusal_is_not_asked_again(failure: Exception) -> None:
    server = Server(failure)
    with persistent(sleep=server.sleep), pytest.raises(LedgerRefused):
        await server.ask()
    assert server.waits == []


async def test_what_would_count_double_is_not_asked_again() -> None:
    server = Server(PASSES)
    with persistent(sleep=server.sleep), pytest.raises(LedgerUnavailable):
        await server.ask(query_once)


async def test_a_server_that_cannot_be_reached_is_told_at_once_when_work_begins_and_waited_for_later() -> (
    None
):
    server, gone = Server(UNREACHABLE), Server(UNREACHABLE)
    with persistent(sleep=server.sleep):
        with pytest.raises(LedgerUnavailable):
            await server.ask()
        await server.ask()
        assert await gone.ask() == 2


async def test_work_whose_lease_is_lost_ends_instead_of_asking_again() -> None:
    server = Server(PASSES)

    def check() -> None:
        raise LeaseLost("another holds it")

    with persistent(sleep=server.sleep, check=check), pytest.raises(LeaseLost):
        await server.ask()
    assert server.asked == 1


async def test_tasks_that_work_starts_are_persistent_too_and_those_from_before_are_not() -> None:
    begun = asyncio.Event()

    async def before() -> int:
        await begun.wait()
        return await Server(PASSES).ask()

    earlier = asyncio.create_task(before())
    await asyncio.sleep(0)
    server = Server(PASSES)
    with persistent(sleep=server.sleep):
        assert await asyncio.create_task(server.ask()) == 2
        begun.set()
        with pytest.raises(LedgerUnavailable):
            await earlier


async def test_a_count_is_made_anew_where_the_move_was_asked_again() -> None:
    async def found() -> int:
        return 12

    server = Server(PASSES)
    with persistent(sleep=server.sleep):
        assert await counted(server.ask(), found) == 12
        assert await counted(server.ask(), found) == 3


def _throttled(milliseconds: int) -> driver.OperationFailure:
    return driver.OperationFailure(f"{said(milliseconds)}, full error: {{}}", 16500)


@pytest.mark.parametrize("decorated", [query, query_once])
async def test_every_query_waits_as_long_as_the_server_says(
    decorated: Callable[[Any], Any],
) -> None:
    server = Server(_throttled(34), _throttled(8))
    with persistent(sleep=server.sleep):
        assert await server.ask(decorated) == 3
    assert server.waits == [0.034, 0.008]


async def test_long_work_waits_on_as_told_where_a_query_gives_up() -> None:
    too_long = int(TOLD_SECONDS * 1000) + 1
    server, often = Server(_throttled(too_long)), Server(*[_throttled(1)] * (TOLD_TIMES + 1))
    with persistent(sleep=server.sleep):
        await server.ask()
        await often.ask()
    assert server.waits == [too_long / 1000, *[0.001] * TOLD_TIMES, WAITS_SECONDS[0]]


def _bulk(*problems: dict[str, Any]) -> driver.BulkWriteError:
    return driver.BulkWriteError({"writeErrors": list(problems)})


THROTTLED = [{"code": 16500, "errmsg": said(wait)} for wait in (8, 120, 20)]
DUPLICATE = {"code": 11000, "errmsg": "E11000 duplicate key: Error=16500, RetryAfterMs=5000"}


@pytest.mark.parametrize(
    ("error", "wait_ms"),
    [
        (_throttled(34), 34),
        (driver.WriteError(said(34), 16500), 34),
        (driver.OperationFailure(said(0).replace("Error=16500", "Error=429"), 429), 0),
        (_bulk(*THROTTLED), 120),
        (_bulk(DUPLICATE, *THROTTLED), 120),
        (driver.OperationFailure("Message: {\"Errors\":[\"Request rate is large\"]}", 16500), None),
        (driver.OperationFailure("killed: find {_id: 'Error=16500, RetryAfterMs=5000'}", 11601), None),
        (_bulk({"code": 11601, "errmsg": "killed"}), None),
    ],
)  # fmt: skip
def test_how_long_to_wait_is_read_where_the_server_says_it(
    error: Exception, wait_ms: int | None
) -> None:
    translated = translate(error)
    assert isinstance(translated, LedgerUnavailable)
    assert translated.retry_after == (None if wait_ms is None else timedelta(milliseconds=wait_ms))


def test_a_bulk_write_of_which_a_part_is_refused_is_not_asked_again() -> None:
    assert isinstance(
        translate(_bulk(*THROTTLED, {"code": 121, "errmsg": "not valid"})), LedgerRefused
    )
