"""A worker that delivers sends the row that it has polled itself, without a message over Redis; one
that only polls leaves it to the others.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import config
from app.runtime.loop import Runtime
from app.runtime.worker import Services, open_worker
from app.testbed.simulator.partner import serve
from tests.support.doubles import MemoryQueue
from tests.support.wait import until

FEED = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "URL/rows" }
"""


async def _poll(services: Services) -> int:
    return (await services.polling.poll(services.config.feed("orders"))).logged


@pytest.mark.parametrize("delivers", [True, False])
async def test_a_row_is_sent_by_the_worker_that_polled_it_if_that_delivers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mongo_database_url: str,
    clean_redis_url: str,
    delivers: bool,
) -> None:
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, v TEXT)")
        connection.execute("INSERT INTO orders (v) VALUES ('a row')")
        connection.commit()
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{source}",
    }.items():
        monkeypatch.setenv(name, value)
    async with serve() as partner:
        (tmp_path / "feeds.toml").write_text(FEED.replace("URL", partner.url), encoding="utf-8")
        loaded, queue = config.load(), MemoryQueue()
        worker = Runtime(lambda: open_worker(loaded, queue, delivers=lambda: delivers))
        try:
            assert await asyncio.to_thread(worker.run, _poll) == 1
            if delivers:
                await until(lambda: partner.accepted_keys, timeout=60, message="the row")
        finally:
            await asyncio.to_thread(worker.close)
        assert (len(queue.messages), len(partner.accepted_keys)) == ((0, 1) if delivers else (1, 0))
