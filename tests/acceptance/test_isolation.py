"""One feed's trouble is one feed's: while a partner answers nothing, the other feeds and all polls
go on.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest

from app.testbed.embedded.process import Process
from app.testbed.embedded.source import connect
from app.testbed.embedded.stack import Stack
from tests.acceptance.conftest import PATIENT
from tests.support.command import Ran, command
from tests.support.holding_partner import HELD, HoldingPartner, holding_partner
from tests.support.wait import wait_until

FEED = """
[feeds.{name}]
table = "{name}"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
poll_every = "1s"
partner = {{ url = "{url}", timeout = "1h" }}
"""
SLOW_ROWS, FAST_ROWS, CONCURRENCY = 1000, 200, 100


class Two:
    """Two feeds of one stack: the partner of `slow` holds every request, that of `fast` answers at
    once.
    """

    def __init__(
        self, stack: Stack, partner: HoldingPartner, client: pymongo.MongoClient[dict[str, Any]]
    ) -> None:
        self.stack = stack
        self.partner = partner
        self.ledger = client.get_default_database()

    def add(self, table: str, rows: int) -> None:
        with closing(connect(self.stack.database)) as source:
            source.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)"
            )
            source.execute("BEGIN IMMEDIATE")
            source.executemany(
                f"INSERT INTO {table} (v) VALUES (?)",  # noqa: S608 - names of ours
                [(f"row {n}",) for n in range(rows)],
            )
            source.execute("COMMIT")

    def delivered(self, feed: str) -> int:
        return self.ledger["deliveries"].count_documents({"feed": feed, "state": "delivered"})

    def polled_at(self, feed: str) -> datetime | None:
        cursor = self.ledger["cursors"].find_one({"_id": feed})
        return cursor["last_poll_at"] if cursor else None

    def app(self, *arguments: str) -> Ran:
        return command(self.stack.environment, *arguments)

    def sending(self) -> dict[str, int]:
        """Rows of each feed, as `status` has them."""
        lines = json.loads(self.app("status", "--json").stdout)["feeds"]
        return {line["feed"]: line["sending"] for line in lines}

    def wait_for_polls(self) -> None:
        """Both feeds are polled twice more."""
        for _ in range(2):
            before = {feed: self.polled_at(feed) for feed in ("slow", "fast")}

            def polled(before: dict[str, datetime | None] = before) -> bool:
                return all(self.polled_at(feed) != at for feed, at in before.items())

            wait_until(polled, timeout=120, message="a poll of each feed")


@contextmanager
def two_feeds(
    directory: Path, settings: dict[str, str], slow_rows: int = SLOW_ROWS
) -> Iterator[Two]:
    with holding_partner() as partner, Stack(directory, settings=settings) as stack:
        feeds = [("slow", partner.url + HELD), ("fast", partner.url + "/fast")]
        text = "".join(FEED.format(name=name, url=url) for name, url in feeds)
        (directory / "feeds.toml").write_text(text, encoding="utf-8")
        with pymongo.MongoClient[dict[str, Any]](stack.mongo_url) as client:
            two = Two(stack, partner, client)
            two.add("fast", 0)
            two.add("slow", slow_rows)
            stack.start_beat()
            yield two


@pytest.fixture
def two(tmp_path: Path, shared_ledger: Mapping[str, str]) -> Iterator[Two]:
    with two_feeds(tmp_path, {**PATIENT, **shared_ledger}) as made:
        yield made


def test_every_row_of_one_feed_arrives_before_any_answer_of_the_others_partner(two: Two) -> None:
    worker = two.stack.start_worker()
    wait_until(
        lambda: two.partner.arrived[HELD] == CONCURRENCY,
        timeout=180,
        message="all requests that may be made",
    )
    wait_until(
        lambda: two.ledger["deliveries"].count_documents({"feed": "slow"}) == SLOW_ROWS,
        timeout=180,
        message="all rows of the slow feed to wait in the ledger",
    )
    two.add("fast", FAST_ROWS)
    wait_until(
        lambda: two.delivered("fast") == FAST_ROWS, timeout=180, message="the fast feed's rows"
    )
    two.wait_for_polls()
    assert (two.partner.arrived[HELD], two.partner.answered[HELD]) == (CONCURRENCY, 0)
    leased = list(two.ledger["batches"].find({"feed": "slow", "lease": {"$ne": None}}))
    assert sum(len(batch["ids"]) for batch in leased) <= 3 * CONCURRENCY, (
        "the others stay where any worker finds them"
    )

    assert two.app("ping").returncode == 0
    health = two.app("health")
    assert health.returncode == 0, health.stdout
    wait_until(
        lambda: CONCURRENCY <= two.sending()["slow"] <= 3 * CONCURRENCY,
        timeout=120,
        message="the worker to say what it is sending, which it does with each heartbeat",
    )
    two.partner.let_go.set()
    wait_until(
        lambda: two.delivered("slow") == SLOW_ROWS, timeout=120, message="the slow feed's rows"
    )
    assert two.partner.arrived[HELD] == SLOW_ROWS, "each once"
    worker.signal(signal.SIGTERM)
    wait_until(lambda: not worker.alive, timeout=120, message="its end")
    assert worker.returncode == 0


def test_a_worker_that_comes_to_a_full_one_gets_its_part(two: Two) -> None:
    """The first one's requests end, and it may make half as many from then on."""
    first = two.stack.start_worker()
    wait_until(
        lambda: two.partner.arrived[HELD] == CONCURRENCY,
        timeout=180,
        message="all requests that may be made",
    )
    two.stack.start_worker()
    leased = two.ledger["batches"]

    def holders() -> set[str]:
        return {
            batch["lease"]["worker"]
            for batch in leased.find({"feed": "slow", "lease": {"$ne": None}})
        }

    wait_until(
        lambda: len(holders()) == 2,
        timeout=120,
        message="a batch of each worker's, though no row comes",
    )
    first.signal(signal.SIGTERM)
    two.partner.let_go.set()
    wait_until(lambda: two.delivered("slow") == SLOW_ROWS, timeout=120, message="every row")


def test_processes_that_end_after_a_few_tasks_end_what_they_have_taken_over(
    tmp_path: Path, shared_ledger: Mapping[str, str]
) -> None:
    """`--pool processes --max-tasks-per-child`: a lease of ten minutes shows that nothing is left
    behind.
    """
    settings = {"LEASE": "10m", "SHUTDOWN_GRACE": "60s", **shared_ledger}
    with two_feeds(tmp_path, settings, slow_rows=50) as two:
        worker = two.stack.start_worker(
            "--pool", "processes", "--concurrency", "2", "--max-tasks-per-child", "10"
        )
        wait_until(lambda: two.partner.arrived[HELD] > 0, timeout=180, message="requests in flight")
        two.add("fast", FAST_ROWS)
        wait_until(
            lambda: two.partner.arrived["/fast"] > 0, timeout=180, message="those of the other feed"
        )
        two.partner.let_go.set()
        wait_until(
            lambda: _begun(worker) > 2, timeout=180, message="a process in the place of another"
        )
        wait_until(
            lambda: (two.delivered("slow"), two.delivered("fast")) == (50, FAST_ROWS),
            timeout=180,
            message="every row",
        )
        assert two.ledger["attempts"].count_documents({"outcome": "unknown"}) == 0
        assert two.partner.arrived[HELD] == 50, "each once"


def _begun(worker: Process) -> int:
    """Processes that have begun to work for it."""
    return worker.log.read_text(encoding="utf-8").count("services_opened")
