"""Feeds in the API: how each is doing, its past and its configuration, and what an operator does with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.console.audit.repository import AuditRepository
from app.console.security.roles import Role
from app.core.attempts import Outcome
from app.core.clock import utc_now
from app.core.url import parse_url
from app.feeds.auth import BearerAuth
from app.feeds.feed import Partner
from app.ledger.heartbeats import Configured, Heartbeat
from app.ledger.heartbeats import Role as Process
from tests.support.console import (
    PASSWORD,
    Consoled,
    cheap_passwords,
    console_config,
    running_console,
)
from tests.support.feeds import make_feed
from tests.support.ledger import log_batch

WHY = "the partner asked for it"
PARTNER = Partner(
    url=parse_url("http://partner.invalid/rows?token=s3cret-in-url"),
    auth=BearerAuth(type="bearer", token=SecretStr("s3cret-token")),
    headers={"X-Customer": "$customer", "X-Api-Key": "s3cret-header"},
)


@pytest.fixture
async def console(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Consoled]:
    """A console over a source of 12 rows and three feeds of it."""
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    with closing(sqlite3.connect(tmp_path / "source.db")) as source, source:
        source.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)")
        source.executemany(
            "INSERT INTO orders VALUES (?, ?)", [(i, f"Nguyen {i}") for i in range(1, 13)]
        )
    feeds = [make_feed("orders", partner=PARTNER), make_feed("refunds"), make_feed("idle")]
    loaded = console_config(tmp_path, mongo_database_url, clean_redis_url, feeds)
    async with running_console(loaded) as running:
        yield running


async def _line(console: Consoled, name: str) -> dict[str, Any]:
    viewer = await console.logged_in(Role.VIEWER)
    answer = (await viewer.get("/api/v1/feeds")).json()
    return next(line for line in answer["feeds"] if line["name"] == name)


async def test_a_line_tells_what_is_open_what_waits_in_the_source_and_the_last_hour(
    console: Consoled,
) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await log_batch(ledger, 1, 2, 3, now=now - timedelta(minutes=3))
    await ledger.stats.add_outcomes("orders", Outcome.DELIVERED, 5, now - timedelta(minutes=30))
    await ledger.stats.add_outcomes("orders", Outcome.RETRY, 2, now)
    line = await _line(console, "orders")
    assert (line["open"], line["lag_rows"], line["dead"], line["gaps"]) == (3, 12, 0, 0)
    assert (line["delivered_last_hour"], line["failed_last_hour"]) == (5, 2)
    assert [step["delivered"] for step in line["hour"]].count(0) == 11, "in one of 12 steps"
    assert line["state"] == "no worker"


async def test_who_looks_at_the_same_time_is_answered_by_one_reading(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewers = [await console.logged_in(Role.VIEWER) for _ in range(3)]
    asked, since = 0, console.services.operator.ledger.heartbeats.since

    async def counting(*arguments: Any) -> list[Heartbeat]:
        nonlocal asked
        asked += 1
        return await since(*arguments)

    monkeypatch.setattr(console.services.operator.ledger.heartbeats, "since", counting)
    answers = await asyncio.gather(*(one.get("/api/v1/feeds") for one in viewers for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert asked == 2, "once by the status, and once for the processes"


async def test_a_pause_is_told_at_once_and_on_record_before_and_after(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    assert (await _line(console, "orders"))["paused"] is None
    pausing = {"part": "Polling", "why": WHY}
    paused = (await operator.post("/api/v1/feeds/orders/pause", json=pausing)).json()
    assert (paused["changed"], paused["polled"], paused["sent"]) == (True, False, True)
    line = await _line(console, "orders")
    assert (line["state"], line["paused"]) == ("polling paused", f"polling paused: {WHY}")
    resumed = await operator.post("/api/v1/feeds/orders/resume", json={"why": "they are back"})
    assert resumed.json()["paused"] is None
    assert (await _line(console, "orders"))["state"] == "no worker"
    actions = await _actions(console)
    assert actions == [
        ("feed.pause_asked", "orders", WHY),
        ("feed.paused", "orders", WHY),
        ("feed.resume_asked", "orders", "they are back"),
        ("feed.resumed", "orders", "they are back"),
    ]


async def _actions(console: Consoled) -> list[tuple[str, str, str | None]]:
    """What is on record of feeds and rows."""
    async with console.services.store.reading() as session:
        entries = await AuditRepository(session).in_order(1, 1000)
    of_feeds = [one for one in entries if one.action.startswith(("feed.", "row."))]
    return [(one.action, one.subject, one.why) for one in of_feeds]


@pytest.mark.parametrize("path", ["pause", "resume", "rewind", "preview"])
async def test_what_a_viewer_may_not_do_is_refused_and_not_on_record(
    console: Consoled, path: str
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    asked = {"rewind": {"to": "beginning"}, "preview": {"key": "1", "why": WHY}}
    before = await _actions(console)
    refused = await viewer.post(f"/api/v1/feeds/orders/{path}", json=asked.get(path, {"why": WHY}))
    assert (refused.status_code, "operator" in refused.json()["detail"]) == (403, True)
    assert await _actions(console) == before


async def test_a_reason_is_required_and_an_unknown_feed_is_none(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    assert (await operator.post("/api/v1/feeds/orders/pause", json={})).status_code == 422
    for path in ("/api/v1/feeds/nothing", "/api/v1/feeds/nothing/preview?key=1"):
        unknown = await operator.get(path)
        assert (unknown.status_code, "nothing" in unknown.json()["detail"]) == (404, True)
    asked = {"why": WHY}
    assert (await operator.post("/api/v1/feeds/nothing/pause", json=asked)).status_code == 404


async def test_no_secret_of_a_feed_is_told(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    read = await operator.get("/api/v1/feeds/orders")
    previewed = await operator.get("/api/v1/feeds/orders/preview?key=7")
    revealed = await operator.post("/api/v1/feeds/orders/preview", json={"key": "7", "why": WHY})
    for answer in (read, previewed, revealed):
        assert answer.status_code == 200
        assert "s3cret" not in answer.text
    settings = {one["name"]: one for one in read.json()["configuration"]}
    assert settings["partner.auth.token"]["value"] == "[secret]"
    assert (settings["page_size"]["value"], settings["page_size"]["given"]) == ("5", True)
    assert (settings["retry.max_age"]["value"], settings["retry.max_age"]["given"]) == ("3d", False)
    assert settings["key"]["value"] == "id"


async def test_a_preview_hides_the_row_until_somebody_says_why(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    hidden = (await operator.get("/api/v1/feeds/orders/preview?key=7")).json()
    assert (hidden["sent"], hidden["masked"], hidden["row_from"]) == (True, True, "source")
    assert "Nguyen" not in str(hidden)
    assert "customer" in hidden["body"], "its form stays"
    asked = {"key": "7", "why": WHY}
    shown = (await operator.post("/api/v1/feeds/orders/preview", json=asked)).json()
    assert "Nguyen 7" in shown["body"]
    assert (await _actions(console))[-1] == ("row.revealed", "orders:7", WHY)
    nowhere = await operator.get("/api/v1/feeds/orders/preview?key=999")
    assert nowhere.status_code == 404


async def test_a_rewind_is_counted_before_it_is_done(console: Consoled) -> None:
    operator, ledger = await console.logged_in(Role.OPERATOR), console.services.operator.ledger
    address = "/api/v1/feeds/orders/rewind"
    await log_batch(ledger, 9, 10)
    counted = (await operator.post(address, json={"to": "8"})).json()
    assert (counted["done"], counted["rows"], counted["known"]) == (False, 4, 2)
    assert (await ledger.cursors.get("orders")).position is None, "nothing moved"
    asked = {"to": "8", "token": counted["token"]}
    assert (await operator.post(address, json=asked)).status_code == 422, "without a reason"
    done = (await operator.post(address, json=asked | {"why": WHY})).json()
    assert (done["done"], (await ledger.cursors.get("orders")).position) == (True, 8)
    assert [action for action, *_ in await _actions(console)][-2:] == [
        "feed.rewind_asked",
        "feed.rewound",
    ]


async def test_a_rewind_takes_no_token_of_another_count(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    admin = await console.logged_in(Role.ADMIN)
    address = "/api/v1/feeds/orders/rewind"
    token = (await operator.post(address, json={"to": "8"})).json()["token"]
    refunds = "/api/v1/feeds/refunds/rewind"
    wrong = [
        (operator, address, {"to": "7", "token": token}),
        (operator, refunds, {"to": "8", "token": token}),
        (admin, address, {"to": "8", "token": token}),
        (operator, address, {"to": "8", "token": token[:-4] + "AAAA"}),
        (operator, address, {"to": "8", "token": "é"}),
    ]
    for client, path, asked in wrong:
        assert (await client.post(path, json=asked | {"why": WHY})).status_code == 409
    assert (await operator.post(address, json={"to": "no position"})).status_code == 422
    assert (await console.services.operator.ledger.cursors.get("orders")).position is None


async def test_a_rewind_is_counted_by_one_process_and_done_by_another(console: Consoled) -> None:
    operator = await console.logged_in(Role.OPERATOR)
    address = "/api/v1/feeds/orders/rewind"
    token = (await operator.post(address, json={"to": "8"})).json()["token"]
    async with running_console(console.services.loaded.current) as other:
        other.ids = console.ids
        elsewhere = await other.logged_in(Role.OPERATOR)
        asked = {"to": "8", "token": token, "why": WHY}
        assert (await elsewhere.post(address, json=asked)).json()["done"] is True
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await operator.get("/api/v1/users/me", headers=bearer)).status_code == 401
    login = {"name": "operator", "password": PASSWORD}
    access = (await operator.post("/api/v1/tokens", json=login)).json()["access_token"]
    refused = await operator.post(address, json=asked | {"token": access})
    assert (refused.status_code, "not the token of a count" in refused.text) == (409, True)


async def test_a_worker_with_another_feeds_toml_is_told_of(console: Consoled) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    configured = Configured("another", now)
    await ledger.heartbeats.put(
        Heartbeat(Process.WORKER, "celery@a", "a", 1, now, now, configuration=configured)
    )
    console.services.loaded.keep("feeds.toml: feeds.orders.table: found nothing")
    viewer = await console.logged_in(Role.VIEWER)
    answer = (await viewer.get("/api/v1/feeds")).json()
    failing = {one["where"]: one["said"] for one in answer["failing"]}
    assert "cannot be used" in failing["console"]
    (process,) = answer["processes"]
    assert process["name"] == "celery@a"


@pytest.mark.parametrize("back", ["hour", "Day", "WEEK"])
async def test_a_history_has_its_range_in_steps_and_its_latency(
    console: Consoled, back: str
) -> None:
    ledger, now = console.services.operator.ledger, utc_now()
    await ledger.stats.add_logged("orders", 7, now)
    await ledger.stats.add_outcomes("orders", Outcome.DELIVERED, 5, now - timedelta(minutes=20))
    viewer = await console.logged_in(Role.VIEWER)
    for _ in range(2):  # read, and remembered
        read = (await viewer.get(f"/api/v1/feeds/orders?range={back}")).json()
        assert read["range"] == back.lower()
        assert sum(step["delivered"] for step in read["history"]) == 5
        assert read["history"][-1]["logged"] == 7
