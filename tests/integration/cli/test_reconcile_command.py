"""`python -m app reconcile` and `certificate`, as an operator types them, over real servers and
without a worker.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import redis
from pymongo import MongoClient

from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.source.engine import open_engine
from app.source.reader import Source
from config import Config, load
from tests.support.command import command
from tests.support.doubles import MemoryQueue

FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
filter = [{ column = "note", op = "!=", value = "test" }]
partner = { url = "http://partner.invalid/orders" }

[feeds.quiet]
table = "quiet"
key = "id"
cursor = { strategy = "rowversion", column = "rv" }
partner = { url = "http://partner.invalid/quiet" }
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits."""

    environment: dict[str, str]
    config: Config

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        ran = command(self.environment, *arguments)
        return ran.returncode, ran.stdout, ran.stderr

    def poll(self) -> None:
        async def polling() -> None:
            url = self.config.settings.mongo_url.get_secret_value()
            ledger = Ledger.at(url, timedelta(seconds=5))
            source = Source(open_engine(self.environment["SOURCE_URL"], timedelta(seconds=5)))
            for feed in self.config.feeds.values():
                await Polling(
                    source, ledger, MemoryQueue(), message_wait=timedelta(minutes=1)
                ).poll(feed)
            await source.close()
            await ledger.close()

        asyncio.run(polling())

    def change(self, collection: str, wanted: Document, update: Document | None = None) -> None:
        """Change documents behind the system's back; without an update, delete them."""
        with MongoClient[Document](self.environment["MONGO_URL"]) as client:
            documents = client.get_default_database()[collection]
            documents.update_many(wanted, update) if update else documents.delete_many(wanted)

    def queued_messages(self) -> Sequence[bytes]:
        with redis.Redis.from_url(self.environment["REDIS_URL"]) as client:
            return list(client.lrange("deliver", 0, -1))


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, clean_redis_url: str
) -> Desk:
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.execute("CREATE TABLE quiet (id INTEGER PRIMARY KEY, rv INTEGER)")
        notes = ((number, "test" if number % 10 == 0 else "n") for number in range(1, 101))
        connection.executemany("INSERT INTO orders VALUES (?, ?)", notes)
        connection.executemany(
            "INSERT INTO quiet VALUES (?, ?)", ((number, 2000 + number) for number in range(1, 4))
        )
        connection.commit()
    variables = {
        "SOURCE_URL": f"sqlite:///{tmp_path}/shop.db",
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "FEEDS_FILE": f"{tmp_path}/feeds.toml",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Desk(os.environ | variables, load())
    made.poll()
    delivered = {"$set": {"state": "delivered"}, "$unset": {"batch": ""}}
    made.change("deliveries", {"state": "queued", "key": {"$ne": "7"}}, delivered)
    made.change(
        "deliveries", {"_id": "orders:7"}, {"$set": {"state": "dead"}, "$unset": {"batch": ""}}
    )
    return made


def test_the_certificate_is_printed_in_plain_words(desk: Desk) -> None:
    code, told, wrong = desk.run("reconcile")
    assert (code, wrong) == (0, "")
    assert told == (
        "orders: complete\n"
        "  100 source rows = 89 delivered + 1 dead + 10 skipped + 0 cancelled + 0 open, up to position 100\n"
        "quiet: complete\n"
        "  3 source rows = 3 delivered + 0 dead + 0 skipped + 0 cancelled + 0 open, "
        "up to position 0x00000000000007D3\n"
    )
    code, told, _ = desk.run("certificate", "quiet")
    assert code == 0
    assert told.startswith("quiet: complete (")
    assert "\n  3 source rows = 3 delivered" in told


def test_a_dry_run_tells_what_is_missing_with_exit_code_1_and_a_run_heals_it(desk: Desk) -> None:
    desk.change("deliveries", {"_id": {"$in": ["orders:3", "orders:20"]}})
    code, told, wrong = desk.run("reconcile", "orders", "--dry-run")
    assert (code, wrong) == (1, "")
    assert told == (
        "orders: NOT COMPLETE (nothing was changed)\n"
        "  100 source rows = 88 delivered + 1 dead + 9 skipped + 0 cancelled + 0 open + 2 missing, "
        "up to position 100\n"
        "  2 had no delivery, and 0 were logged by this run: orders:3, orders:20\n"
        "  to log what is missing: python -m app reconcile orders\n"
    )
    assert desk.run("certificate", "orders")[:2] == (1, "")
    assert desk.queued_messages() == []
    code, told, wrong = desk.run("reconcile", "orders", "--json")
    assert (code, wrong) == (0, "")
    (certificate,) = orjson.loads(told)["certificates"]
    assert (certificate["missing"], certificate["healed"], certificate["complete"]) == (2, 2, True)
    assert certificate["states"] == {
        "queued": 1, "retrying": 0, "delivered": 88, "dead": 1, "cancelled": 0, "skipped": 10,
    }  # fmt: skip
    assert len(desk.queued_messages()) == 1
    (saved,) = orjson.loads(desk.run("certificate", "orders", "--json")[1])["certificates"]
    assert saved == certificate


def test_since_takes_a_position_a_duration_or_the_beginning(desk: Desk) -> None:
    desk.change("deliveries", {"_id": {"$in": ["orders:3", "orders:97"]}})
    code, told, _ = desk.run("reconcile", "orders", "--since", "95", "--dry-run")
    assert code == 1
    assert "  5 source rows = 3 delivered" in told
    assert "+ 1 missing, after position 95 up to position 100\n" in told
    assert desk.run("reconcile", "orders", "--since", "7d", "--dry-run")[1].count("orders:3") == 1
    code, _, wrong = desk.run("reconcile", "quiet", "--since", "soon")
    assert (code, wrong.count("\n")) == (2, 1)
    assert "--since: found 'soon'; feed quiet" in wrong


def test_a_feed_that_the_source_refuses_does_not_keep_the_others_from_it(
    desk: Desk, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("DROP TABLE orders")
    code, told, wrong = desk.run("reconcile", "--json")
    assert (code, wrong.count("\n")) == (1, 1)
    assert "feed orders: table 'orders' does not exist" in wrong
    found = orjson.loads(told)
    assert [(one["feed"], one["complete"]) for one in found["certificates"]] == [("quiet", True)]
    assert found["failed"].keys() == {"orders"}


def test_what_cannot_be_done_is_one_line(desk: Desk) -> None:
    code, told, wrong = desk.run("reconcile", "ordres")
    assert (code, told, wrong.count("\n")) == (2, "", 1)
    assert "known feeds: orders, quiet" in wrong
    desk.environment["SOURCE_URL"] = "sqlite:////nowhere/shop.db"
    code, told, wrong = desk.run("reconcile", "orders", "--json")
    assert (code, wrong.count("\n")) == (1, 1)
    assert "unable to open database file" in wrong
    assert orjson.loads(told)["failed"].keys() == {"orders"}
    code, told, wrong = desk.run("certificate", "quiet")
    assert (code, told) == (1, "")
    assert "never reconciled" in wrong
