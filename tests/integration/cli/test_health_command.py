"""`python -m app health`: what it says, and the exit codes that HEALTHCHECK and probes go by."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import main
from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.rows import Page
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Role

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
"""
Ask = Callable[..., Result]


@pytest.fixture
def ask(tmp_path: Path, mongo_database_url: str) -> Ask:
    """Runs `health` with arguments; settings may be replaced."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")

    def run(*arguments: str, **settings: str) -> Result:
        environment = {
            "MONGO_URL": mongo_database_url,
            "FEEDS_FILE": str(tmp_path / "feeds.toml"),
            "CONNECT_TIMEOUT": "2s",
            **settings,
        }
        return CliRunner().invoke(main, ["health", *arguments], env=environment)

    return run


def heartbeat(role: Role = Role.WORKER, name: str = "celery@here", age: float = 1.0) -> Heartbeat:
    now = utc_now()
    at = now - timedelta(seconds=age)
    ages = {"broker_seconds": 60.0, "consumer_seconds": 1.0, "sent_seconds": 1.0}
    return Heartbeat(role, name, socket.gethostname(), 1, now, at, **ages)  # type: ignore[arg-type] # floats, each of them


async def polled(ledger: Ledger) -> None:
    await ledger.cursors.advance(Cursor("orders"), Page((), 0, (), full=False), utc_now())


async def asked(ask: Ask, *arguments: str, **settings: str) -> tuple[int, dict[str, str]]:
    """(exit code, name → live, ready or the problem)."""
    result = await asyncio.to_thread(ask, *arguments, "--json", **settings)
    checks = orjson.loads(result.stdout)["checks"]
    said = {
        c["name"]: "ready" if c["ready"] else f"{'live' if c['live'] else 'dead'}: {c['found']}"
        for c in checks
    }
    return result.exit_code, said


async def test_all_that_makes_progress_is_well(ledger: Ledger, ask: Ask) -> None:
    await ledger.heartbeats.put(heartbeat())
    await ledger.heartbeats.put(heartbeat(Role.BEAT, "beat@here"))
    await polled(ledger)
    assert await asked(ask) == (
        0,
        {"celery@here": "ready", "beat@here": "ready", "orders": "ready"},
    )


async def test_what_was_never_heard_of_is_a_problem(ask: Ask) -> None:
    code, said = await asked(ask)
    assert code == 1
    assert {name: told.split(":")[0] for name, told in said.items()} == {
        "orders": "dead",
        "anywhere": "dead",
    }
    code, said = await asked(ask, "--role", "worker")
    assert (code, list(said)) == (1, [f"on {socket.gethostname()}"])


async def test_after_a_clean_stop_it_says_how_to_start_one_and_nothing_stale(
    ledger: Ledger, ask: Ask
) -> None:
    for role, name in ((Role.WORKER, "celery@here"), (Role.BEAT, "beat@here")):
        await ledger.heartbeats.put(heartbeat(role, name))
    before = utc_now() - timedelta(hours=1)
    await ledger.cursors.note_failure("orders", before, "source: connection lost", before)
    await ledger.heartbeats.leave(Role.WORKER, "celery@here", 1)
    assert (await asked(ask))[1]["orders"] == "dead: is not polled: no worker runs"
    await ledger.heartbeats.leave(Role.BEAT, "beat@here", 1)
    code, _ = await asked(ask)
    assert code == 1
    lines = (await asyncio.to_thread(ask)).stdout.splitlines()
    assert lines[0] == "NO PROGRESS: feed orders: is not polled: no worker and no beat runs"
    for line, part in zip(lines[1:], ("worker", "beat"), strict=True):
        told, _, command = line.partition("none runs, start one with: ")
        assert told == f"NO PROGRESS: {part} anywhere: "
        celery, *arguments = shlex.split(command)
        assert arguments == ["-A", "celery_app", part]
        assert os.access(celery, os.X_OK), "the command is one that can be run as printed"


async def test_only_this_machines_processes_count_for_a_role(ledger: Ledger, ask: Ask) -> None:
    await ledger.heartbeats.put(heartbeat())
    await ledger.heartbeats.put(replace(heartbeat(name="celery@there", age=500), host="there"))
    assert await asked(ask, "--role", "worker") == (0, {"celery@here": "ready"})
    code, said = await asked(ask)
    assert code == 1
    assert said["celery@there"].startswith("dead: stands still: no sign of it for 5"), (
        "500 s, and what asking takes"
    )


async def test_one_of_several_can_be_named(ledger: Ledger, ask: Ask) -> None:
    await ledger.heartbeats.put(heartbeat())
    await ledger.heartbeats.put(heartbeat(name="hangs@here", age=500))
    assert (await asked(ask, "--role", "worker"))[0] == 1
    assert (await asked(ask, "--role", "worker", "--name", "celery@here"))[0] == 0
    assert (await asked(ask, "--role", "worker", "--name", "hangs@here"))[0] == 1
    assert (await asked(ask, "--role", "worker", "--name", "nobody@here"))[0] == 1


async def test_the_bound_is_a_setting(ledger: Ledger, ask: Ask) -> None:
    await ledger.heartbeats.put(heartbeat(age=10))
    assert (await asked(ask, "--role", "worker"))[0] == 0
    assert (await asked(ask, "--role", "worker", PROGRESS_BOUND="5s"))[0] == 1


async def test_what_waits_for_a_server_is_live_and_not_ready(ledger: Ledger, ask: Ask) -> None:
    await ledger.heartbeats.put(replace(heartbeat(), broker_seconds=None))
    assert await asked(ask, "--role", "worker") == (
        0,
        {"celery@here": "live: Redis does not answer it"},
    )
    assert (await asked(ask, "--role", "worker", "--ready"))[0] == 1


async def test_a_paused_feed_is_live_and_not_ready(ledger: Ledger, ask: Ask) -> None:
    await polled(ledger)
    await ledger.pauses.pause("orders", "410 Gone")
    assert await asked(ask, "--role", "feeds") == (0, {"orders": "live: paused: 410 Gone"})
    assert (await asked(ask, "--role", "feeds", "--ready"))[0] == 1


def test_without_the_ledger_nobody_can_tell_and_no_restart_would_help(ask: Ask) -> None:
    away = {"MONGO_URL": "mongodb://127.0.0.1:1/x", "CONNECT_TIMEOUT": "200ms"}
    for role in ("worker", "beat"):
        result = ask("--role", role, **away)
        assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
        assert result.stdout.startswith("not told: ledger: ")
        assert ask("--role", role, "--ready", **away).exit_code == 1
    assert ask("--role", "feeds", **away).exit_code == 1
    assert ask(**away).exit_code == 1
