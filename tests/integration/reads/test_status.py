"""The status of feeds, as any program reads it: the ledger is asked once for what processes said of
themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import config
from app.broker.depths import Broker
from app.configuration import checks
from app.core.clock import utc_now
from app.ledger import Ledger
from app.ledger.heartbeats import Configured, Heartbeat, Held, Role
from app.reads.feed_state import Stand
from app.reads.status import Status, read_status
from app.source.engine import open_engine
from app.source.reader import Source
from app.testbed.embedded.source import create_source
from tests.unit.configuration.test_config import GOOD

PATIENCE = timedelta(seconds=5)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_redis_url: str) -> config.Partly:
    """A configuration of one feed, whose source is there."""
    create_source(tmp_path / "source.db")
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", clean_redis_url)
    monkeypatch.setenv("SOURCE_URL", f"sqlite:///{tmp_path / 'source.db'}")
    return checks.load_partly()


@pytest.fixture
async def status(ledger: Ledger, read: config.Partly) -> AsyncIterator[Callable[[], Any]]:
    settings = read.config.settings
    source = Source(open_engine(settings.source_url.get_secret_value(), PATIENCE))
    broker = Broker(settings.redis_url.get_secret_value(), PATIENCE)

    async def ask() -> Status:
        return await read_status(read, ledger, source, broker)

    yield ask
    await broker.close()
    await source.close()


def _worker(name: str, at: datetime, *holds: Held, feeds: str = "") -> Heartbeat:
    return Heartbeat(
        Role.WORKER, name, "here", 1, at, at, holds=holds, configuration=Configured(feeds, at)
    )


async def test_what_processes_say_is_asked_for_once(
    ledger: Ledger, status: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked, since = utc_now(), 0, ledger.heartbeats.since
    for mark in (
        _worker("celery@old", now - timedelta(minutes=20), Held("orders", 1, 100)),
        _worker("celery@one", now, Held("orders", 1, 4)),
        _worker("celery@two", now, Held("orders", 2, 5), feeds="another"),
    ):
        await ledger.heartbeats.put(mark)

    async def counting(*arguments: Any) -> list[Heartbeat]:
        nonlocal asked
        asked += 1
        return await since(*arguments)

    monkeypatch.setattr(ledger.heartbeats, "since", counting)
    found: Status = await status()
    (orders,) = found.feeds
    assert asked == 1
    assert orders.sending == 9, "of those that were heard of lately"
    assert orders.state.stand is not Stand.NO_WORKER
    older = [failing.where for failing in found.failing if "feeds.toml" in failing.said]
    assert older == ["celery@one", "celery@two"], (
        "one that has been silent for long runs with nothing any more"
    )
    monkeypatch.undo()
    for mark in await ledger.heartbeats.since(now - timedelta(seconds=1)):
        await ledger.heartbeats.leave(mark.role, mark.name, mark.pid)
    assert (await status()).feeds[0].state.stand is Stand.NO_WORKER, (
        "the silent one counts for none"
    )
