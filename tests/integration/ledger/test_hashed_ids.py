"""Deliveries whose key is too long for an id, of which it holds a hash: everything an operator does
finds them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner, Result

import config
from app.cli.main import main
from app.core.clock import utc_now
from app.core.keys import LONGEST_KEY, short_key, shown_id
from app.core.states import State
from app.intake.poll import Polling
from app.ledger import Ledger
from app.reconcile import Reconciling
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.doubles import MemoryQueue

WAIT = timedelta(minutes=1)
LONG = ["ä" * 400 + "1", "ä" * 400 + "2", "x" * 3000, "y: /%" * 700]
"""Two that differ in their last letter only, and one of signs that are encoded."""
SHORT = "k-1"
FEEDS = """
[feeds.orders]
table = "orders"
key = "code"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/" }
retention = { payload_days = 1, days = 2 }
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits, before a table of long keys that has been polled."""

    place: Path
    environment: dict[str, str]
    url: str

    def command(self, *words: str) -> Result:
        return CliRunner().invoke(main, words, env=self.environment)

    def json(self, *words: str) -> Any:
        result = self.command(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.place / "shop.db")) as connection:
            connection.execute(statement, values)
            connection.commit()

    def poll(self) -> None:
        async def poll(ledger: Ledger, source: Source) -> None:
            await Polling(source, ledger, MemoryQueue(), message_wait=WAIT).poll(
                config.load().feeds["orders"]
            )

        self._with(poll)

    def reconcile(self) -> Any:
        async def reconcile(ledger: Ledger, source: Source) -> Any:
            reconciling = Reconciling(source, ledger, MemoryQueue(), message_wait=WAIT)
            return await reconciling.reconcile(config.load().feeds["orders"])

        return self._with(reconcile)

    def settle(self, state: State = State.DELIVERED, *, days: int = 0) -> None:
        """All deliveries, so many days ago."""

        async def settle(ledger: Ledger, _: Source) -> None:
            at = utc_now() - timedelta(days=days)
            settled = {
                "$set": {"state": state.value, "finished_at": at, "created_at": at},
                "$unset": {"batch": ""},
            }
            await ledger._database["deliveries"].update_many({}, settled)

        self._with(settle)

    def states(self) -> dict[str, str]:
        return {d["_id"]: d["state"] for d in self.json("deliveries", "list")["deliveries"]}

    def _with(self, ask: Any) -> Any:
        async def asked() -> Any:
            ledger = Ledger.at(self.url, timedelta(seconds=5))
            source = Source(open_engine(f"sqlite:///{self.place}/shop.db", timedelta(seconds=5)))
            try:
                return await ask(ledger, source)
            finally:
                await source.close()
                await ledger.close()

        return asyncio.run(asked())


@pytest.fixture
def desk(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    (tmp_path / "archive").mkdir()
    environment = {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path}/shop.db",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "ARCHIVE_DIR": str(tmp_path / "archive"),
        "CONNECT_TIMEOUT": "5s",
        "COLUMNS": "400",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    desk = Desk(tmp_path, environment, mongo_database_url)
    desk.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT UNIQUE, note)")
    for code in (*LONG, SHORT):
        desk.sql("INSERT INTO orders (code, note) VALUES (?, 'new')", code)
    desk.poll()
    return desk


def key_of(code: str) -> str:
    return quote(code, safe="")


def id_of(code: str) -> str:
    return f"orders:{short_key(key_of(code))}"


IDS = {id_of(code) for code in (*LONG, SHORT)}


def test_they_are_listed_and_shown_with_their_whole_key(desk: Desk) -> None:
    assert len(IDS) == len(LONG) + 1
    assert desk.states() == dict.fromkeys(IDS, "queued")
    for code in LONG:
        known = id_of(code)
        assert len(known) < LONGEST_KEY < len(key_of(code))
        assert desk.json("deliveries", "show", known)["delivery"]["key"] == key_of(code)
        shown = shown_id({"_id": known, "feed": "orders", "key": key_of(code)})
        assert shown in desk.command("deliveries", "list").stdout.replace("\n", "")
        for typed in (known, shown, f"orders:{code}", code):
            assert desk.json("deliveries", "show", typed)["delivery"]["_id"] == known


@pytest.mark.parametrize("code", [*LONG, SHORT])
def test_their_request_is_previewed_by_the_whole_key_and_by_what_stands_in_the_id(
    desk: Desk, code: str
) -> None:
    for key in (key_of(code), short_key(key_of(code))):
        shown = desk.json("feeds", "preview", "orders", "--key", key)
        assert (shown["row_from"], json.loads(shown["body"])["code"]) == ("ledger", code)
        assert shown["headers"]["idempotency-key"] == id_of(code)


def test_their_request_is_previewed_from_the_source_once_the_payload_is_gone(desk: Desk) -> None:
    desk.settle(days=1)
    assert desk.command("purge").exit_code == 0
    for key in (key_of(LONG[0]), short_key(key_of(LONG[0]))):
        shown = desk.json("feeds", "preview", "orders", "--key", key)
        assert (shown["row_from"], json.loads(shown["body"])["code"]) == ("source", LONG[0])
        assert shown["headers"]["idempotency-key"] == id_of(LONG[0])


def test_a_hash_of_which_the_ledger_knows_nothing_is_one_clear_line(desk: Desk) -> None:
    unknown = short_key("z" * 2000)
    result = desk.command("feeds", "preview", "orders", "--key", unknown)
    assert result.exit_code == 1
    assert "neither in the ledger nor in the source" in result.stderr
    assert "Traceback" not in result.output


def test_they_are_replayed_by_id_and_by_feed(desk: Desk) -> None:
    desk.settle(State.DEAD)
    assert desk.json("replay", id_of(LONG[0])) == {"selected": 1, "moved": 1, "skipped": {}}
    assert desk.states()[id_of(LONG[0])] == "queued"
    assert desk.json("replay", "--feed", "orders")["moved"] == len(LONG)
    assert desk.states() == dict.fromkeys(IDS, "queued")


def test_they_are_cancelled_and_acknowledged(desk: Desk) -> None:
    assert desk.json("cancel", id_of(LONG[1]))["moved"] == 1
    desk.settle(State.DEAD)
    assert desk.json("acknowledge", id_of(LONG[2]))["moved"] == 1
    assert desk.json("replay", "--feed", "orders")["skipped"] == {"acknowledged": 1}


def test_one_whose_row_was_mended_is_read_again_by_its_whole_key(desk: Desk) -> None:
    code = "w" * 5000
    desk.sql("INSERT INTO orders (code, note) VALUES (?, CAST(x'61ff' AS TEXT))", code)
    desk.poll()
    assert desk.states()[id_of(code)] == "dead"
    said = desk.command("deliveries", "show", id_of(code)).stdout.replace("\n", "")
    assert f"mend the row in the source, then: python -m app replay {id_of(code)}" in said
    desk.sql("UPDATE orders SET note = 'mended' WHERE code = ?", code)
    assert desk.json("replay", id_of(code)) == {"selected": 1, "moved": 1, "skipped": {}}
    shown = desk.json("deliveries", "show", id_of(code))["delivery"]
    assert json.loads(shown["payload"])["note"] == "mended"


def test_they_are_archived_purged_and_restored(desk: Desk) -> None:
    desk.settle(days=5)
    assert desk.command("purge").exit_code == 0
    assert desk.states() == {}
    files = sorted((desk.place / "archive").glob("orders/*.zst"))
    assert files
    for path in files:
        assert desk.command("archive", "verify", str(path)).exit_code == 0
        assert desk.command("archive", "restore", str(path)).exit_code == 0
    assert desk.states() == dict.fromkeys(IDS, "delivered")
    assert desk.json("deliveries", "show", id_of(LONG[3]))["delivery"]["key"] == key_of(LONG[3])


def test_reconciliation_tells_those_deleted_missing_and_changed(desk: Desk) -> None:
    desk.settle()
    assert desk.reconcile().complete
    desk.sql("DELETE FROM orders WHERE code = ?", LONG[0])
    desk.sql("UPDATE orders SET note = 'changed' WHERE code = ?", LONG[2])

    async def lose(ledger: Ledger, _: Source) -> None:
        await ledger._database["deliveries"].delete_one({"_id": id_of(LONG[1])})

    desk._with(lose)
    certificate = desk.reconcile()
    assert (certificate.deleted, certificate.missing, certificate.healed) == (1, 1, 1)
    assert certificate.missing_ids == (id_of(LONG[1]),)
    assert [found.ids for found in certificate.discrepancies] == [(id_of(LONG[2]),)]
