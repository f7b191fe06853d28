"""The metrics endpoint over real servers: a parser reads it, `status` agrees with it, and no secret
is in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

import config
from app.configuration.loaded import Loaded
from app.core.certificates import Certificate
from app.core.clock import utc_now
from app.core.position import Gap
from app.core.rows import Page
from app.core.states import State
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Role, TaskTimes
from app.monitoring.metrics.collect import Exporter
from app.monitoring.metrics.families import FAMILIES
from app.monitoring.metrics.server import application
from app.reads.status import FeedStatus, read_status
from app.runtime.reader import open_reader
from app.testbed.embedded.server import free_port
from app.testbed.embedded.source import create_source
from tests.support.ledger import claim, failed, loaded, log_batch, source_rows, succeed

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
[feeds.orders.partner]
url = "https://partner.invalid/SECRET?token=SECRET"
auth = { type = "bearer", token = "SECRET" }

[feeds.returns]
table = "returns"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
"""
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, clean_redis_url: str
) -> config.Config:
    """A source with a table `orders` and none called `returns`."""
    create_source(tmp_path / "source.db")
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    values = {
        "REDIS_URL": clean_redis_url,
        "MONGO_URL": mongo_database_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "CONNECT_TIMEOUT": "1s",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return config.load()


@pytest.fixture
async def exporter(settings: config.Config) -> AsyncIterator[Exporter]:
    async with open_reader(settings) as reader:
        yield reader.exporter


async def scrape(exporter: Exporter, accept: str = "") -> httpx.Response:
    """What a scrape gives, over HTTP."""
    runner = web.AppRunner(application(exporter))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    finally:
        await runner.cleanup()


def read(page: str) -> Found:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(found: Found, name: str, **labels: str) -> float | None:
    return found.get((f"rowrelay_{name}", frozenset(labels.items())))


async def fill(ledger: Ledger) -> None:
    """Deliveries in every state, a cursor with a gap, a worker, a certificate."""
    batch = await log_batch(ledger, 1, 2, 3, 4, 5)
    await ledger.deliveries.log_skipped(
        "orders", [(row, "filtered") for row in source_rows(6, 7)], utc_now()
    )
    await succeed(ledger, 1, 2)
    held = await claim(ledger, batch)
    deliveries = await loaded(ledger, held)
    now = utc_now()
    await ledger.deliveries.fail(
        held, [failed(deliveries["3"]), failed(deliveries["4"], None)], now
    )
    await log_batch(ledger, 1, 2, 3, feed="left")
    gap = Gap(8, 9, now - timedelta(seconds=100))
    page = Page(rows=tuple(source_rows(1)), position=9, gaps=(gap,), full=False)
    await ledger.cursors.advance(await ledger.cursors.get("orders"), page, now)
    await ledger.pauses.pause("orders", "SECRET reason")
    tasks = {"poll": TaskTimes(2, 1, 0.5, (0, 0, 2, 0, 0, 0, 0, 0, 0))}
    common = Heartbeat(Role.WORKER, "celery@h", "h", 1, now, now, broker_seconds=60.0)
    worker = replace(common, consumer_seconds=600.0, taken=7, tasks=tasks)
    await ledger.heartbeats.put(worker)
    await ledger.heartbeats.put(replace(common, role=Role.BEAT, name="beat@h", sent_seconds=2.0))
    await ledger.certificates.save(
        Certificate("orders", now, 9, 5, {State.DELIVERED: 4}, missing=1)
    )


async def _status(settings: config.Config) -> list[FeedStatus]:
    read = config.Partly(settings, (), frozenset(settings.feeds))
    async with open_reader(settings) as reader:
        return (await read_status(read, reader.ledger, reader.source, reader.broker)).feeds


@pytest.mark.usefixtures("settings")
async def test_the_page_agrees_with_status_to_the_row(
    ledger: Ledger, settings: config.Config, exporter: Exporter
) -> None:
    await fill(ledger)
    found = read((await scrape(exporter)).text)
    for line in await _status(settings):
        states = {
            state: value(found, "deliveries", feed=line.feed, state=state) for state in line.states
        }
        assert states == line.states, line.feed
        assert value(found, "unconfigured_open", feed=line.feed) == (
            None if line.configured else line.open
        )
        if not line.configured:
            continue
        assert value(found, "gaps", feed=line.feed) == line.gaps
        assert value(found, "feed_paused", feed=line.feed) == line.paused
        assert value(found, "source_lag_rows", feed=line.feed) == line.lag_rows
    assert value(found, "deliveries", feed="left", state="queued") == 3, (
        "a feed that is no longer configured"
    )
    assert value(found, "unconfigured_open", feed="left") == 3
    assert (value(found, "oldest_open_seconds", feed="left") or 0) > 1000
    assert value(found, "source_lag_rows", feed="returns") is None, "its table does not exist"


async def test_every_subject_is_there(ledger: Ledger, exporter: Exporter) -> None:
    await fill(ledger)
    found = read((await scrape(exporter)).text)
    for server in ("ledger", "redis", "source"):
        assert value(found, "up", server=server) == 1, server
    assert value(found, "process_live", role="worker", process="celery@h") == 0, (
        "it lost its consumer"
    )
    assert value(found, "process_live", role="beat", process="beat@h") == 1
    assert value(found, "worker_messages_taken_total", process="celery@h") == 7
    assert value(found, "task_duration_seconds_count", process="celery@h", task="poll") == 2
    assert value(found, "task_failures_total", process="celery@h", task="poll") == 1
    assert 100 <= (value(found, "oldest_gap_seconds", feed="orders") or 0) < 130
    assert (value(found, "oldest_open_seconds", feed="orders") or 0) > 1000, (
        "logged at a fixed time, long ago"
    )
    assert value(found, "oldest_open_seconds", feed="returns") == 0
    assert value(found, "certificate_complete", feed="orders") == 0
    assert value(found, "certificate_missing_rows", feed="orders") == 1
    assert value(found, "breaker_state", feed="orders", state="closed") == 1
    assert value(found, "queue_depth", queue="deliver") == 0
    assert value(found, "backlog_limit", feed="orders") == 100_000


async def test_both_formats_are_read_by_a_parser_and_hold_known_metrics_alone(
    ledger: Ledger, exporter: Exporter
) -> None:
    await fill(ledger)
    plain = await scrape(exporter)
    assert plain.headers["content-type"].startswith("text/plain")
    open_text = await scrape(exporter, "application/openmetrics-text; version=1.0.0")
    assert open_text.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(open_text.text)}  # type: ignore[no-untyped-call] # it has no types
    known = {name.removesuffix("_total") for name in FAMILIES}
    assert {name for name in names if not name.startswith("process_")} <= known


async def test_nothing_secret_and_no_text_of_the_partners_or_the_sources_is_exported(
    ledger: Ledger, exporter: Exporter
) -> None:
    await fill(ledger)
    assert "SECRET" not in (await scrape(exporter)).text


async def test_a_ledger_that_is_away_is_down_and_its_figures_are_absent(
    settings: config.Config,
) -> None:
    away = settings.settings.model_copy(update={"mongo_url": SecretStr("mongodb://127.0.0.1:1/x")})
    async with open_reader(config.Config(away, settings.feeds)) as reader:
        found = read((await scrape(reader.exporter)).text)
    assert value(found, "up", server="ledger") == 0
    assert value(found, "up", server="redis") == 1
    assert value(found, "up", server="source") is None, (
        "nobody could ask it: where it stands is in the ledger"
    )
    assert value(found, "reading_failed", reading="open") == 1
    assert not [name for name, _ in found if name.startswith("rowrelay_deliveries")]
    assert value(found, "queue_depth", queue="poll") == 0


async def test_the_feeds_are_those_of_the_configuration_as_it_now_is(
    settings: config.Config, ledger: Ledger
) -> None:
    await fill(ledger)
    running = Loaded(replace(settings, feeds={"returns": settings.feed("returns")}))
    async with open_reader(running) as reader:
        exporter = reader.exporter
        before = read((await scrape(exporter)).text)
        running.replace(replace(settings, feeds={"orders": settings.feed("orders")}))
        stale = read((await scrape(exporter)).text)
        for reading in exporter.readings:
            reading._due_at = 0.0
        after = read((await scrape(exporter)).text)
    told = [
        {dict(labels)["feed"] for name, labels in found if name == "rowrelay_feed_paused"}
        for found in (before, stale, after)
    ]
    assert told == [{"returns"}, set(), {"orders"}]


async def test_redis_and_the_source_away_are_down_each(
    settings: config.Config, ledger: Ledger
) -> None:
    changes = {"redis_url": "redis://127.0.0.1:1/0", "source_url": "sqlite:////nowhere/source.db"}
    away = settings.settings.model_copy(
        update={name: SecretStr(url) for name, url in changes.items()}
    )
    await fill(ledger)
    async with open_reader(config.Config(away, settings.feeds)) as reader:
        found = read((await scrape(reader.exporter)).text)
    assert [value(found, "up", server=server) for server in ("ledger", "redis", "source")] == [
        1,
        0,
        0,
    ]
    assert value(found, "deliveries", feed="orders", state="delivered") == 2
    assert value(found, "queue_depth", queue="poll") is None
