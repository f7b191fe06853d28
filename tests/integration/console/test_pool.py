"""Connections to the console's database: none is lost, and a console without one says when to come again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.pool import QueuePool

from app.console.security.roles import Role
from tests.support.console import SHELL, Consoled, cheap_passwords, console_config, running_console
from tests.support.wait import until

ME = "/api/v1/users/me"


@pytest.fixture
async def narrow(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Consoled]:
    """A console with two connections."""
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    configured = console_config(
        tmp_path,
        mongo_database_url,
        clean_redis_url,
        console_pool_size=1,
        console_pool_overflow=1,
        console_pool_wait=timedelta(milliseconds=200),
    )
    async with running_console(configured) as running:
        yield running


def _taken(console: Consoled) -> int:
    pool = console.services.store.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


async def test_where_all_connections_are_taken_the_answer_says_when_to_come_again(
    narrow: Consoled,
) -> None:
    viewer, store = await narrow.logged_in(Role.VIEWER), narrow.services.store
    async with store.reading() as one, store.reading() as other:
        await one.connection()
        await other.connection()
        refused = await viewer.get(ME)
        page = await viewer.get("/no-such-page")
        elsewhere = {"Origin": "https://status.example"}
        cross = await viewer.post(ME + "/password", json={}, headers=elsewhere)
    for answer in (refused, cross):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert "CONSOLE_POOL_SIZE" in answer.json()["detail"]
    assert page.status_code == 404
    assert (await viewer.get(ME)).status_code == 200
    assert _taken(narrow) == 0


async def test_no_connection_is_lost_by_errors_and_requests_that_are_cut_off(
    narrow: Consoled,
) -> None:
    viewer, admin = await narrow.logged_in(Role.VIEWER), await narrow.logged_in(Role.ADMIN)
    dice = random.Random(7)

    async def ask(number: int) -> int:
        origin = {"origin": f"https://{number % 5}.example"}
        asked: tuple[Callable[[], Awaitable[httpx.Response]], ...] = (
            lambda: viewer.get(ME),
            lambda: viewer.get("/api/v1/users"),  # 403
            lambda: viewer.get(f"/api/v1/sessions?after={number}"),  # 422
            lambda: admin.post("/api/v1/origins", json=origin),  # 201, 409
            lambda: admin.get(f"/api/v1/users/{'0' * 32}"),  # 404
        )
        try:
            async with asyncio.timeout(dice.choice((5.0, 5.0, 0.0, 0.002, 0.01))):
                return (await asked[number % 5]()).status_code
        except TimeoutError:
            return 0

    seen: set[int] = set()
    for begun in range(0, 300, 10):
        seen |= set(await asyncio.gather(*(ask(begun + more) for more in range(10))))
    assert {0, 200, 403, 404, 422} <= seen
    # A connection of a request that was cut off is given back in a task.
    await until(lambda: not _taken(narrow), message="all connections to be given back")
    assert (await viewer.get(ME)).status_code == 200


async def test_a_writer_that_fails_leaves_nothing_and_gives_its_connection_back(
    narrow: Consoled,
) -> None:
    store = narrow.services.store
    await narrow.user(Role.ADMIN)
    before = (await narrow.services.audit.verify()).entries
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await _write_and_fail(narrow)
    assert _taken(narrow) == 0
    assert (await narrow.services.audit.verify()).entries == before
    await store.ready()


async def _write_and_fail(console: Consoled) -> None:
    async with console.services.store.writing() as work:
        await console.services.audit.record(work, SHELL, "test.failed", "nothing")
        raise RuntimeError("a fault")
