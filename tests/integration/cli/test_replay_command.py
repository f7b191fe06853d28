"""`python -m app replay` and `cancel`, as an operator types them, over real servers and without a
worker.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from app.core.clock import utc_now
from app.core.rows import SourceRow
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.client import Document
from app.testbed.embedded.server import free_port
from app.testbed.embedded.stack import ROOT
from tests.support.command import command
from tests.support.doubles import MemoryQueue
from tests.support.ledger import listed
from tests.support.wait import wait_until

T = TypeVar("T")

FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://partner.invalid/orders" }
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits."""

    environment: dict[str, str]
    url: str

    def start(self, *arguments: str, terminal: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command; `terminal`: the descriptor that it reads from."""
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            env=self.environment, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        ran = command(self.environment, *arguments)
        return ran.returncode, ran.stdout, ran.stderr

    def answer(self, *arguments: str) -> Document:
        """What a command that must succeed says in JSON."""
        code, told, wrong = self.run(*arguments, "--json")
        assert code == 0, told + wrong
        answer: Document = orjson.loads(told)
        return answer

    def ask(self, question: Callable[[Ledger], Awaitable[T]]) -> T:
        """Ask the ledger something."""

        async def asking() -> T:
            ledger = Ledger.at(self.url, timedelta(seconds=5))
            try:
                return await question(ledger)
            finally:
                await ledger.close()

        return asyncio.run(asking())

    def log_dead(self, count: int, state: str = "dead") -> None:
        """Put dead letters, or settled ones, into the ledger, `orders:0` and so on."""

        async def write(ledger: Ledger) -> None:
            rows = [SourceRow(str(key), key, f'{{"id": {key}}}') for key in range(count)]
            batch = new_batch("orders", [f"orders:{row.key}" for row in rows])
            await ledger.deliveries.log([(batch, rows)], utc_now())
            dead = {
                "state": state,
                "finished_at": utc_now(),
                "reason": "422 Unprocessable",
                "last": {"status": 422},
            }
            await ledger._database["deliveries"].update_many(
                {}, {"$set": dead, "$unset": {"batch": ""}}
            )

        self.ask(write)

    def found(self) -> list[Document]:
        return self.ask(lambda ledger: listed(ledger, "orders"))

    def replayed(self) -> int:
        return sum(found.get("replay_count", 0) for found in self.found())


@pytest.fixture
def desk(mongo_database_url: str, clean_redis_url: str, tmp_path: Path) -> Desk:
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    ours = {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path}/source.db",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "COLUMNS": "200",
    }
    return Desk({**os.environ, **ours}, mongo_database_url)


def test_killed_half_way_the_same_command_goes_on_and_each_is_replayed_once(desk: Desk) -> None:
    """Without a worker it waits for room once what it moves in two seconds is unsettled: 40 of 60
    at its first rate.
    """
    rows = 60
    desk.log_dead(rows)
    replay = ("replay", "--feed", "orders", "--rate", "40/second")
    with desk.start(*replay[:-1], "20/second") as process:
        wait_until(lambda: desk.replayed() >= 10, timeout=30, message="ten to be replayed")
        process.kill()
    moved = desk.replayed()
    assert 10 <= moved < rows
    assert desk.answer(*replay) == {"selected": rows - moved, "moved": rows - moved, "skipped": {}}
    assert {found["replay_count"] for found in desk.found()} == {1}
    assert desk.answer(*replay) == {"selected": 0, "moved": 0, "skipped": {}}


def test_a_dry_run_counts_and_shows_a_few_and_moves_nothing(desk: Desk) -> None:
    desk.log_dead(15)
    answer = desk.answer(
        "replay", "--status", "422", "--since", "1h", "--reason", "unprocess", "--dry-run"
    )
    assert (answer["selected"], answer["movable"], answer["moved"], len(answer["sample"])) == (
        15,
        15,
        0,
        10,
    )
    assert "payload" not in answer["sample"][0]
    code, told, _ = desk.run("replay", "--all", "--dry-run")
    assert code == 0
    assert "would be replayed  15" in told
    assert desk.replayed() == 0


def test_without_redis_what_is_logged_is_not_among_the_json(desk: Desk) -> None:
    desk.log_dead(2)
    desk.environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    with desk.start("replay", "--feed", "orders", "--json") as process:
        told, wrong = process.communicate(timeout=60)
    assert (process.returncode, orjson.loads(told)) == (
        0,
        {"selected": 2, "moved": 2, "skipped": {}},
    )
    assert "publish_failed" in wrong


def test_who_and_when_are_on_the_delivery_and_a_cancel_follows(desk: Desk) -> None:
    desk.log_dead(3)
    code, told, _ = desk.run("replay", "orders:1", "orders:77")
    assert code == 0
    assert "skipped: not in the ledger  1" in told
    assert desk.answer("cancel", "--feed", "orders", "--state", "queued")["moved"] == 1
    (found,) = [one for one in desk.found() if one["state"] == "cancelled"]
    assert found["_id"] == "orders:1"
    assert found["replays"][0]["by"] == found["cancelled"]["by"]
    assert "@" in found["cancelled"]["by"]


def test_the_reason_is_on_record_with_who_and_when(desk: Desk) -> None:
    desk.log_dead(2)
    assert desk.answer("acknowledge", "orders:0", "--why", "sent by mail")["moved"] == 1
    assert desk.answer("replay", "orders:1", "--why", "the partner has mended it")["moved"] == 1
    assert desk.answer("cancel", "orders:1", "--why", "not this one")["moved"] == 1
    acknowledged, cancelled = desk.found()
    assert acknowledged["acknowledged"]["why"] == "sent by mail"
    assert cancelled["replays"][0]["why"] == "the partner has mended it"
    assert cancelled["cancelled"]["why"] == "not this one"
    assert cancelled["reason"].endswith(": not this one")
    shown = desk.run("deliveries", "show", "orders:1")[1]
    assert (
        shown.index("replayed by")
        < shown.index("the partner has mended it")
        < shown.rindex("  cancelled by")
    )


def test_one_client_of_the_ledger_serves_a_whole_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.log_dead(2)
    at, opened = Ledger.at, list[Ledger]()

    def counting(*arguments: Any) -> Ledger:
        opened.append(at(*arguments))
        return opened[-1]

    monkeypatch.setattr(Ledger, "at", counting)
    monkeypatch.setattr("app.cli.servers.open_queue", lambda _: MemoryQueue())
    for move in ("replay", "cancel"):
        opened.clear()
        assert desk.answer(move, "orders:0")["moved"] == 1
        assert len(opened) == 1, move


def test_above_a_hundred_a_person_is_asked_first(desk: Desk) -> None:
    desk.log_dead(101)
    ours, theirs = os.openpty()
    with desk.start("replay", "--all", terminal=theirs) as process:
        os.write(ours, b"n\n")
        _, asked = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 1
    assert "Replay 101 deliveries?" in asked
    assert desk.replayed() == 0


DELIVERED = ("replay", "--state", "delivered", "--all")


def test_what_was_delivered_is_sent_again_on_a_clear_word_alone(desk: Desk) -> None:
    """Without a terminal: `--yes`. However few there are."""
    desk.log_dead(2, "delivered")
    for options in ((), ("--json",)):
        code, told, wrong = desk.run(*DELIVERED, *options)
        assert (code, told) == (2, "")
        assert "2 of them were delivered: the partner gets them again. To do it: --yes" in wrong
    assert desk.run(*DELIVERED, "--dry-run")[0] == 0
    assert desk.replayed() == 0
    assert desk.answer(*DELIVERED, "--yes")["moved"] == 2
    assert desk.answer(*DELIVERED) == {"selected": 0, "moved": 0, "skipped": {}}


def test_a_person_is_asked_before_what_was_delivered_is_sent_again(desk: Desk) -> None:
    desk.log_dead(2, "delivered")
    ours, theirs = os.openpty()
    with desk.start(*DELIVERED, terminal=theirs) as process:
        os.write(ours, b"n\n")
        _, asked = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 1
    assert "Replay 2 deliveries? 2 of them were delivered: the partner gets them again." in asked
    assert desk.replayed() == 0


def test_keys_are_taken_as_people_write_them(desk: Desk) -> None:
    desk.log_dead(3)
    assert desk.answer("replay", "1", "orders:2")["moved"] == 2
    assert desk.answer("cancel", "2")["moved"] == 1
    assert desk.answer("acknowledge", "0")["moved"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay",), "nothing is selected"),
        (("replay", "--state", "delivered"), "nothing is selected"),
        (("cancel",), "nothing is selected"),
        (
            ("replay", "--all", "--state", "queued"),
            "--state queued: takes dead, cancelled, delivered",
        ),
        (("cancel", "--all", "--state", "dead"), "--state dead: takes queued, retrying"),
        (("replay", "--feed", "ordres"), "feed 'ordres': not configured; known feeds: orders"),
        (("cancel", "--feed", "ordres"), "feed 'ordres': not configured; known feeds: orders"),
        (("acknowledge", "--feed", "ordres"), "feed 'ordres': not configured; known feeds: orders"),
        (("replay", "x", "--since", "yesterday"), "neither a moment"),
        (("replay", "x", "--rate", "0/second"), "not a rate"),
        (("replay", "x", "--status", "7"), "--status"),
    ],
)
def test_wrong_usage_is_refused_with_2(desk: Desk, arguments: tuple[str, ...], told: str) -> None:
    code, _, wrong = desk.run(*arguments)
    assert code == 2
    assert told in wrong
