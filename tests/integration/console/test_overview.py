"""The overview and a feed's page: what they show, kept up to date, and safe whatever stands in a field."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from sqlalchemy import select

from app.console.feeds import live
from app.console.security.roles import Role
from app.console.store.tables import Session
from app.core.attempts import Outcome
from app.core.clock import utc_now
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat
from app.ledger.heartbeats import Role as Process
from app.operations.by import By
from app.operations.pause import pause
from tests.support.console import Consoled, cheap_passwords, console_config, running_console
from tests.support.feeds import make_feed
from tests.support.hostile import SCRIPTS
from tests.support.ledger import log_batch
from tests.support.overheard import Overheard
from tests.support.statements import statements

WHY = "the partner asked for it"


@dataclass(slots=True)
class Streamed:
    """A response that goes on, as ASGI sends it."""

    status: int = 0
    text: str = ""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, part: str) -> str:
        """What came until that part did."""
        async with asyncio.timeout(20):
            while part not in self.text:
                self.came.clear()
                await self.came.wait()
        return self.text


@asynccontextmanager
async def _streaming(console: Consoled, path: str, cookie: str) -> AsyncIterator[Streamed]:
    """A stream, as a browser reads it; httpx over ASGI would wait for its end."""
    streamed, gone = Streamed(), asyncio.Event()
    begun = False

    async def receive() -> dict[str, Any]:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        streamed.status = message.get("status", streamed.status)
        streamed.text += message.get("body", b"").decode()
        streamed.came.set()
        if message["type"] == "http.response.body" and not message.get("more_body"):
            streamed.ended.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8800),
    }  # fmt: skip
    running = asyncio.create_task(console.app(scope, receive, send))
    try:
        yield streamed
    finally:
        gone.set()
        await asyncio.wait_for(running, 20)


async def _cookie(console: Consoled, role: Role) -> str:
    client = await console.logged_in(role)
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """News come at once."""
    monkeypatch.setattr(live, "EVERY_SECONDS", 0.05)


async def test_the_overview_tells_of_each_feed_and_process(console: Consoled) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await log_batch(ledger, 1, 2, 3, now=now - timedelta(hours=3))
    await ledger.stats.add_outcomes("orders", Outcome.DELIVERED, 5, now)
    await ledger.heartbeats.put(Heartbeat(Process.WORKER, "celery@a", "a", 1, now, now))
    viewer = await console.logged_in(Role.VIEWER)
    page = await viewer.get("/")
    assert page.status_code == 200
    for said in ('href="/feeds/orders"', "3 hours ago", "5 delivered", "celery@a", "not polled"):
        assert said in page.text


async def test_who_is_not_logged_in_comes_to_the_login_and_gets_no_stream(
    console: Consoled,
) -> None:
    somebody = await console.client()
    assert (await somebody.get("/")).headers["location"] == "/login?next=/"
    assert (await somebody.get("/api/v1/events")).status_code == 401


@pytest.mark.usefixtures("at_once")
async def test_events_tell_of_a_pause_in_json_and_as_rows(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.snapshot.FRESH_SECONDS", 0.0)
    cookie, ledger = await _cookie(console, Role.VIEWER), console.services.operator.ledger
    async with (
        _streaming(console, "/api/v1/events", cookie) as told,
        _streaming(console, "/overview/events", cookie) as rows,
    ):
        first = await told.until("\n\n")
        assert json.loads(_data(first))["feeds"][0]["state"] == "no worker"
        await rows.until("no worker")
        await pause(ledger, "orders", By("somebody", WHY))
        await told.until('"state":"paused"')
        await rows.until(WHY)
    whole, *later = rows.text.split("event: ")[1:]
    assert whole.startswith("rows")
    told_of_it = next(event for event in later if WHY in event)
    assert told_of_it.startswith("cells"), "the rest is not sent again"
    assert len(told_of_it) < len(whole) / 2
    assert not console.services.feeds.live._watches, "nobody is read for any more"
    assert console.services.feeds.live._reading is None


def _data(text: str) -> str:
    event = text.partition("\n\n")[0]
    return "\n".join(
        line.removeprefix("data: ") for line in event.split("\n") if line.startswith("data: ")
    )


@pytest.mark.usefixtures("at_once")
async def test_a_stream_ends_with_the_login(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STILL_SECONDS", 0.1)
    viewer = await console.logged_in(Role.VIEWER)
    cookie = "; ".join(f"{name}={value}" for name, value in viewer.cookies.items())
    async with _streaming(console, "/overview/events", cookie) as rows:
        await rows.until("event: rows")
        await viewer.post("/logout")
        await asyncio.wait_for(rows.ended.wait(), 20)
        assert "event: end" in rows.text


@pytest.mark.usefixtures("at_once")
async def test_a_stream_ends_when_the_console_stops(console: Consoled) -> None:
    cookie = await _cookie(console, Role.VIEWER)
    async with _streaming(console, "/api/v1/events", cookie) as told:
        await told.until("event: overview")
        console.services.feeds.live.end()
        await asyncio.wait_for(told.ended.wait(), 20)


async def test_no_more_than_so_many_watch_at_once(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST", 1)
    viewer = await console.logged_in(Role.VIEWER)
    async with _streaming(console, "/api/v1/events", await _cookie(console, Role.VIEWER)) as told:
        await told.until("event: overview")
        refused = await viewer.get("/api/v1/events")
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)


@pytest.mark.usefixtures("at_once")
async def test_watching_does_not_count_as_use(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STILL_SECONDS", 0.05)
    monkeypatch.setattr("app.console.security.authentication.SEEN_EVERY", timedelta())
    cookie = await _cookie(console, Role.VIEWER)
    used = await _seen(console)
    async with _streaming(console, "/api/v1/events", cookie) as told:
        await told.until("event: overview")
        begun = await _seen(console)
        assert begun > used, "its beginning does"
        while told.text.count("event: overview") < 4:
            await told.until("event: overview" + "\n")
            await asyncio.sleep(0.05)
        assert await _seen(console) == begun


async def _seen(console: Consoled) -> Any:
    async with console.services.store.reading() as work:
        return max((await work.scalars(select(Session.last_seen_at))).all())


async def test_a_feeds_page_shows_its_charts_with_tables_and_works_by_forms(
    console: Consoled,
) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await ledger.stats.add_outcomes("orders", Outcome.DELIVERED, 5, now)
    operator = await console.logged_in(Role.OPERATOR)
    page = (await operator.get("/feeds/orders?range=day")).text
    assert page.count("<svg") >= 2
    assert page.count("<details><summary>The figures as a table") >= 2
    assert "style=" not in page
    form = {"part": "both", "why": WHY}
    done = await operator.post("/feeds/orders/pause", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/feeds/orders")
    assert f"paused: {WHY}" in (await operator.get("/feeds/orders")).text
    refused = await operator.post("/feeds/orders/resume", data={"part": "both", "why": "x"})
    assert (refused.status_code, 'role="alert"' in refused.text) == (422, True)
    assert (await operator.post("/feeds/orders/resume", data=form)).status_code == 303
    assert (await operator.get("/feeds/nothing")).status_code == 404


async def test_a_rewind_by_page_counts_first(tmp_path: Path, console: Consoled) -> None:
    with closing(sqlite3.connect(tmp_path / "source.db")) as source, source:
        source.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        source.executemany("INSERT INTO orders VALUES (?)", [(i,) for i in range(1, 9)])
    operator, ledger = await console.logged_in(Role.OPERATOR), console.services.operator.ledger
    page = (await operator.get("/feeds/orders/rewind?to=5")).text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    assert (await ledger.cursors.get("orders")).position is None
    form = {"to": "5", "token": token, "why": ""}
    assert (await operator.post("/feeds/orders/rewind", data=form)).status_code == 422
    done = await operator.post("/feeds/orders/rewind", data=form | {"why": WHY})
    assert done.status_code == 303
    assert (await ledger.cursors.get("orders")).position == 5
    previewed = await operator.get("/feeds/orders/preview?key=3")
    assert "POST http://partner.invalid" in previewed.text
    viewer = await console.logged_in(Role.VIEWER)
    assert (await viewer.get("/feeds/orders/rewind?to=5")).status_code == 403


async def test_a_viewer_sees_every_form_disabled_and_why(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    page = (await viewer.get("/feeds/orders")).text
    assert page.count("<button disabled") == 3, "pause, resume and rewind"
    assert "takes the role operator" in page
    refused = await viewer.post("/feeds/orders/pause", data={"part": "both", "why": WHY})
    assert refused.status_code == 403
    assert (await console.services.operator.ledger.cursors.get("orders")).stopped is None


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("script", SCRIPTS)
async def test_what_stands_in_a_reason_an_error_or_a_name_is_shown_and_never_run(
    console: Consoled, script: str
) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await pause(ledger, "orders", By("somebody", script))
    await ledger.cursors.note_failure("orders", now, script, now)
    await ledger.heartbeats.put(
        Heartbeat(Process.WORKER, script, "a", 1, now, now, short_of=script)
    )
    await log_batch(ledger, 1, feed="gone", now=now)
    cookie = await _cookie(console, Role.VIEWER)
    viewer = await console.logged_in(Role.VIEWER)
    pages = [(await viewer.get(path)).text for path in ("/", "/feeds/orders")]
    async with _streaming(console, "/overview/events", cookie) as rows:
        pages.append(await rows.until("\n\n"))
    for page in pages:
        if any(mark in script for mark in "<>"):
            assert script not in page
        assert page.count("<script") <= 2, "those of the page itself"
    assert "rr5f3c" in pages[0], "it is shown"


async def test_more_feeds_are_no_more_statements_and_the_same_questions_each(
    tmp_path: Path,
    mongo_database_url: str,
    clean_redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    monkeypatch.setattr("app.console.snapshot.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("app.console.snapshot.BUSY_PART", 1.0)
    heard: list[dict[str, int]] = []
    for count in (1, 2, 12):
        feeds = [make_feed(f"feed-{number}") for number in range(count)]
        loaded = console_config(tmp_path, mongo_database_url, clean_redis_url, feeds)
        async with running_console(loaded) as running:
            heard.append(await _questions(running, mongo_database_url))
    one, two, twelve = heard
    for path in one:
        each = two[path] - one[path]
        assert each <= 6, f"{path}: each feed"
        assert twelve[path] <= one[path] + 11 * each, f"{path}: more than so many a feed"


PATHS = ("/", "/api/v1/feeds", "/feeds/feed-0", "/api/v1/feeds/feed-0?range=week")


async def _questions(running: Consoled, mongo_url: str) -> dict[str, int]:
    """Path → what it asks of the ledger at least, once it was asked before: what the console reads
    for itself now and then may come on top.
    """
    overheard = Overheard()
    client = AsyncMongoClient[dict[str, Any]](mongo_url, tz_aware=True, event_listeners=[overheard])
    ledger = Ledger(client)
    running.services.operator.__dict__["ledger"] = ledger
    viewer = await running.logged_in(Role.VIEWER, f"viewer-{len(running.services.loaded.feeds)}")
    found: dict[str, int] = {}
    try:
        for path in PATHS:
            assert (await viewer.get(path)).status_code == 200
        for path in PATHS * 3:
            overheard.questions.clear()
            with statements(running.services.store.engine) as sent:
                assert (await viewer.get(path)).status_code == 200
            assert len(sent) <= 2, f"{path}: who asks, and notes"
            asked = len(overheard.questions)
            found[path] = min(asked, found.get(path, asked))
    finally:
        await ledger.close()
    return found
