"""Rows owed of a feed that feeds.toml does not name: nobody sends them, nothing fails for them, and
it is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from app.cli.main import main
from app.core.clock import utc_now
from app.core.states import State
from app.delivery.sweep import Sweeping
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.unconfigured import Unconfigured, unconfigured
from tests.support.doubles import MemoryQueue, Mood
from tests.support.feeds import make_feed
from tests.support.relay import LEASE, MESSAGE_WAIT, Relay

SECOND = timedelta(seconds=1)
ORDERS = make_feed("orders")


def sweeping_orders(relay: Relay) -> Sweeping:
    """Of a worker that knows `orders` alone."""
    clock = relay.clock
    return Sweeping(
        relay.ledger,
        relay.queue,
        {"orders": ORDERS},
        lease=LEASE,
        limit=100,
        now=clock,
        steady=clock.steady,
    )


@pytest.fixture
def gone(ledger: Ledger) -> Relay:
    return Relay(ledger, make_feed("gone"))


async def test_the_sweep_passes_over_what_it_does_not_know_and_says_so_once(gone: Relay) -> None:
    gone.partner.moods = [Mood.FAILS]
    tried, _ = await gone.poll_rows(4)
    await gone.delivering().deliver(gone.feed, tried)
    gone.queue.messages.clear()
    before = await gone.states()
    assert sorted(before.values()) == ["queued", "queued", "retrying", "retrying"]
    orders = Relay(gone.ledger, ORDERS, clock=gone.clock, queue=gone.queue)
    await orders.poll_rows(2)
    gone.clock.advance(timedelta(hours=1))
    sweeping = sweeping_orders(gone)
    with capture_logs() as events:
        for _ in range(4):
            await sweeping.sweep()
            gone.clock.advance(timedelta(minutes=2))
    assert {feed for feed, _ in gone.queue.messages} == {"orders"}
    assert {id_: state for id_, state in (await gone.states()).items() if id_ in before} == before
    said = [event for event in events if event["event"] == "feed_not_configured"]
    assert [(event["feed"], event["open"]) for event in said] == [("gone", 4)]
    assert "cancel --feed gone" in said[0]["do"]


async def test_a_feed_that_is_back_goes_on_where_it_was(gone: Relay) -> None:
    await gone.poll_rows(4)
    gone.queue.messages.clear()
    gone.clock.advance(timedelta(days=2))
    await sweeping_orders(gone).sweep()
    assert gone.queue.messages == []
    await gone.sweeping().sweep()
    await gone.deliver_all()
    assert set((await gone.states()).values()) == {"delivered"}
    assert gone.partner.requests == 4


async def test_a_message_that_comes_to_a_worker_without_the_feed_costs_nothing_and_reaches_one_with_it(
    gone: Relay,
) -> None:
    (batch_id,) = await gone.poll_rows(2)
    gone.queue.messages.clear()
    stranger = gone.delivering("stranger")
    with capture_logs() as events:
        for _ in range(3):
            await stranger.leave_unconfigured("gone", batch_id)
    assert [event["event"] for event in events] == ["feed_not_configured"]
    (trouble,) = stranger.troubles.current()
    assert trouble.feed == "gone"
    assert (await gone.ledger.backlog.open_by_feed())["gone"][0] == 2
    assert await gone.ledger._database["attempts"].count_documents({}) == 0
    gone.clock.advance(timedelta(seconds=6))
    await sweeping_orders(gone).sweep()
    assert gone.queue.messages == [], "where nobody knows the feed its messages do not go round"
    await gone.sweeping().sweep()
    await gone.deliver_all()
    assert set((await gone.states()).values()) == {"delivered"}


async def test_a_batch_that_a_worker_sends_is_left_to_it_by_one_that_does_not_know_its_feed(
    gone: Relay,
) -> None:
    (batch_id,) = await gone.poll_rows(2)
    assert await gone.ledger.batches.claim(batch_id, gone.feed.name, "w1", gone.clock(), LEASE)
    stranger = gone.delivering("stranger")
    await stranger.leave_unconfigured("gone", batch_id)
    await stranger.leave_unconfigured("gone", "no such batch")
    assert stranger.troubles.current() == ()
    assert (
        await gone.ledger.batches.claim(
            batch_id, gone.feed.name, "w2", gone.clock() + LEASE - SECOND, LEASE
        )
        is None
    )


async def test_batches_of_which_nothing_is_owed_any_more_are_deleted_and_others_stay(
    gone: Relay,
) -> None:
    await gone.poll_rows(4)
    await gone.ledger._database["deliveries"].update_many(
        {}, {"$set": {"state": State.CANCELLED.value}}
    )
    other = Relay(gone.ledger, make_feed("other"), clock=gone.clock, queue=MemoryQueue())
    (kept,) = await other.poll_rows(2)
    coming = new_batch("gone", ["gone:99"])
    gone.clock.advance(MESSAGE_WAIT + LEASE + SECOND)
    await gone.ledger.batches.insert([coming], gone.clock() + MESSAGE_WAIT)
    await sweeping_orders(gone).sweep()
    assert await gone.batches() == {kept, coming.id}, (
        "that of a poll under way, and those that owe something"
    )


async def test_only_what_is_owed_counts(gone: Relay) -> None:
    assert await unconfigured(gone.ledger, ["orders"]) == []
    await gone.poll_rows(2)
    assert await unconfigured(gone.ledger, ["orders", "gone"]) == []
    logged = gone.clock.time.replace(microsecond=0)
    (one,) = await unconfigured(gone.ledger, ["orders"])
    assert (one.feed, one.open, one.oldest) == ("gone", 2, logged)
    await gone.deliver_all()
    assert await unconfigured(gone.ledger, ["orders"]) == []


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(5, "5 s"), (90, "2 min"), (3 * 3600, "3 h"), (4 * 86400, "4 d"), (-5, "0 s")],
)
def test_the_age_is_said_in_units_that_one_reads(seconds: float, age: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert f"logged {age} ago" in Unconfigured("b", 1, now - timedelta(seconds=seconds)).said(now)


# --- what an operator sees

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
"""
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(tmp_path: Path, mongo_database_url: str, clean_redis_url: str) -> Run:
    """Runs a command with a feeds.toml that names `orders` alone."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    environment = {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "REPORTS_DIR": str(tmp_path / "reports"),
        "CONNECT_TIMEOUT": "2s",
    }

    async def ran(*arguments: str, columns: int = 500) -> Result:
        there = environment | {"COLUMNS": str(columns)}
        return await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=there)

    return ran


@pytest.fixture
async def owed(ledger: Ledger) -> Relay:
    """Four open deliveries of `gone`, logged an hour ago."""
    relay = Relay(ledger, make_feed("gone"))
    relay.clock.time = utc_now() - timedelta(hours=1)
    await relay.poll_rows(4)
    relay.clock.time = utc_now()
    return relay


WAY_OUT = "python -m app cancel --feed gone"


@pytest.mark.parametrize("columns", [80, 160, 500])
@pytest.mark.parametrize(
    "command", [["status"], ["health"], ["doctor"], ["feeds", "list"]], ids=" ".join
)
@pytest.mark.usefixtures("owed")
async def test_whoever_looks_is_told_how_many_how_old_and_what_to_do(
    run: Run, command: list[str], columns: int
) -> None:
    result = await run(*command, columns=columns)
    assert "nobody sends its 4 open deliveries, the oldest logged 1 h ago" in result.stdout
    assert WAY_OUT in result.stdout


@pytest.mark.usefixtures("owed")
async def test_programs_are_told_too(run: Run) -> None:
    feeds = {
        feed["feed"]: feed for feed in orjson.loads((await run("status", "--json")).stdout)["feeds"]
    }
    assert {name: (feed["configured"], feed["open"]) for name, feed in feeds.items()} == {
        "orders": (True, 0),
        "gone": (False, 4),
    }
    checks = orjson.loads((await run("health", "--role", "feeds", "--json")).stdout)["checks"]
    assert {check["name"]: (check["live"], check["ready"]) for check in checks}["gone"] == (
        True,
        False,
    )
    listed = orjson.loads((await run("feeds", "list", "--json")).stdout)["not_configured"]
    assert [(one["feed"], one["open"]) for one in listed] == [("gone", 4)]


async def test_cancel_works_for_a_feed_that_is_not_configured_and_then_nothing_is_said_of_it(
    owed: Relay, run: Run
) -> None:
    cancelled = await run("cancel", "--feed", "gone")
    assert cancelled.exit_code == 0, cancelled.output
    assert set((await owed.states()).values()) == {"cancelled"}
    for command in (["status"], ["health"], ["doctor"], ["feeds", "list"]):
        assert "gone" not in (await run(*command)).stdout


@pytest.mark.usefixtures("owed")
async def test_each_other_command_works_or_says_why_not(run: Run) -> None:
    for command in (["deliveries", "list", "--feed", "gone"], ["deliveries", "show", "gone:1"]):
        result = await run(*command)
        assert (result.exit_code, "gone:1" in result.stdout) == (0, True)
    for command in (
        ["replay", "--feed", "gone"],
        ["purge", "gone"],
        ["reconcile", "gone"],
        ["feeds", "pause", "gone"],
        ["feeds", "resume", "gone"],
        ["feeds", "preview", "gone", "--key", "1"],
    ):
        result = await run(*command)
        assert result.exit_code != 0
        assert "not configured" in result.output, command
        assert "Traceback" not in result.output


async def test_the_report_of_a_day_names_it(owed: Relay, run: Run) -> None:
    await sweeping_orders(owed).sweep()
    result = await run("report")
    assert result.exit_code == 0, result.output
    assert "gone: NOT CONFIGURED: 4 open deliveries (the oldest since " in result.stdout
    assert WAY_OUT in result.stdout
    for form in ("html", "json"):
        content = (await run("report", "--format", form)).stdout
        assert ("NOT CONFIGURED" if form == "html" else '"unsent":4') in content.replace(
            '": ', '":'
        )
