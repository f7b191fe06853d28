"""`feeds explain` and `feeds rewind`, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner, Result

from app.cli.main import main
from app.ledger import Ledger
from tests.support.ledger import NOW

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.example/" }

[feeds.changes]
table = "dbo.orders"
key = ["tenant", "id"]
cursor = { strategy = "rowversion", column = "rv" }
where = [{ column = "status", op = "=", value = "paid" }]
partner = { url = "https://partner.example/" }
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str) -> Path:
    """A working directory with feeds, and a source of seven rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany(
            "INSERT INTO orders VALUES (?, 'n')", ((number,) for number in range(1, 8))
        )
        connection.commit()
    monkeypatch.setenv("SOURCE_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    return tmp_path


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, ["feeds", *words])


def _cursor(url: str) -> dict[str, object]:
    with MongoClient[dict[str, object]](url) as client:
        return client.get_default_database()["cursors"].find_one({"_id": "orders"}) or {}


@pytest.mark.usefixtures("place")
def test_explain_prints_the_statements_for_the_source_that_is_there() -> None:
    result = _run("explain", "orders")
    assert result.exit_code == 0, result.output
    assert "-- page: each poll; again while a page is full\nSELECT" in result.output
    assert '"note"' in result.output
    assert "not seen" not in result.output


@pytest.mark.usefixtures("place")
def test_explain_writes_t_sql_without_a_server() -> None:
    result = _run("explain", "changes", "--dialect", "mssql")
    assert result.exit_code == 0, result.output
    assert "-- not asked: the columns are those that the feed names; mssql" in result.output
    assert "SELECT MIN_ACTIVE_ROWVERSION() AS horizon;" in result.output
    assert "[dbo].[orders].[rv] < CAST(@horizon AS BINARY(8))" in result.output
    assert _run("explain", "changes", "--dialect", "oracle").exit_code == 2


@pytest.mark.usefixtures("place")
def test_explain_says_why_it_could_not_ask_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_URL", "sqlite:////nowhere/shop.db")
    result = _run("explain", "orders", "--json")
    found = json.loads(result.stdout)
    assert "unable to open database file" in found["note"]
    assert [statement["name"] for statement in found["statements"]][-1] == "unordered"


@pytest.mark.usefixtures("place")
def test_rewind_counts_first_and_moves_only_when_told(mongo_database_url: str) -> None:
    result = _run("rewind", "orders", "--to", "4", "--dry-run")
    assert result.exit_code == 0, result.output
    assert (
        "orders: stands at the beginning (nothing was read yet); would move to id 4; nothing was"
        in result.output
    )
    assert "rows to read from there: 3; of these 0 are in the ledger" in result.output
    assert "position" not in _cursor(mongo_database_url)
    assert (
        "orders: moved from the beginning (nothing was read yet) to id 4"
        in _run("rewind", "orders", "--to", "4").output
    )
    assert _cursor(mongo_database_url)["position"] == 4
    assert (
        _run("rewind", "orders", "--to", "beginning").output
        == "orders: moved from id 4 to the beginning\n"
    )
    assert _cursor(mongo_database_url)["position"] == -(2**63)
    moved = json.loads(_run("rewind", "orders", "--to", "now", "--json").stdout)
    assert (moved["stood_said"], moved["stands_said"], moved["stands"]) == (
        "the beginning",
        "id 7",
        7,
    )
    assert _cursor(mongo_database_url)["position"] == 7


@pytest.mark.usefixtures("place")
def test_a_rewind_to_before_what_is_purged_is_made_on_a_clear_word_alone(
    mongo_database_url: str,
) -> None:
    """Rows whose records are gone would be delivered again."""

    async def purge() -> None:
        ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
        await ledger.purge_watermarks.raise_to("orders", NOW, 5)
        await ledger.close()

    asyncio.run(purge())
    assert _run("rewind", "orders", "--to", "6").exit_code == 0
    assert _run("rewind", "orders", "--to", "beginning", "--dry-run").exit_code == 0
    refused = _run("rewind", "orders", "--to", "4")
    assert refused.exit_code == 2
    assert "orders: records up to id 5 are purged" in refused.stderr
    assert "those read again are delivered again; to do it: --yes" in refused.stderr
    assert _cursor(mongo_database_url)["position"] == 6
    assert _run("rewind", "orders", "--to", "4", "--yes").exit_code == 0
    assert _cursor(mongo_database_url)["position"] == 4


@pytest.mark.usefixtures("place")
def test_pause_and_resume_say_where_the_feed_stands(mongo_database_url: str) -> None:
    for words, said in (
        ("pause orders", "paused: by an operator"),
        ("resume orders --polling", "polling resumed; sending paused: by an operator"),
        ("pause orders --polling --reason x", "polling paused: x; sending paused: by an operator"),
        ("resume orders --sending", "sending resumed; polling paused: x"),
        ("resume orders", "resumed"),
        ("resume orders --sending", "sending was not paused"),
        ("pause orders --sending", "sending paused: by an operator"),
    ):
        assert _run(*words.split()).output == f"orders: {said}\n"
    found = json.loads(_run("resume", "orders", "--polling", "--json").stdout)
    assert found == {
        "feed": "orders", "changed": False, "polled": True, "sent": False, "paused": "sending paused: by an operator"
    }  # fmt: skip
    (listed, *_) = json.loads(_run("list", "--json").stdout)["feeds"]
    assert (listed["polled"], listed["sent"]) == (True, False)
    for width in ("400", "60"):
        listed_so = CliRunner().invoke(main, ["feeds", "list"], env={"COLUMNS": width}).output
        assert "sending paused: by an operator" in listed_so
    assert _cursor(mongo_database_url)["sending_paused"] == "by an operator"


@pytest.mark.usefixtures("place")
def test_rewind_to_what_is_no_position_says_what_one_is() -> None:
    result = _run("rewind", "orders", "--to", "0x07")
    assert result.exit_code == 2
    assert "--to: found '0x07'; strategy identity needs" in result.stderr
    assert _run("rewind", "nope", "--to", "now").exit_code == 2


@pytest.mark.usefixtures("place")
def test_adopt_says_that_a_renamed_table_is_the_same_source(mongo_database_url: str) -> None:
    origin = {"table": "old_orders", "key": ["id"], "strategy": "identity", "column": "id"}
    reason = (
        "feed orders: its deliveries came from table old_orders, key id, cursor identity id, but feeds.toml says table "
        "orders, key id, cursor identity id; give what is another source a feed of another name; if it is the same: "
        "python -m app feeds adopt orders"
    )
    with MongoClient[dict[str, object]](mongo_database_url) as client:
        paused = {
            "_id": "orders",
            "version": 1,
            "origin": origin,
            "paused": True,
            "paused_reason": reason,
        }
        client.get_default_database()["cursors"].insert_one(paused)
    result = _run("adopt", "orders")
    assert result.exit_code == 0, result.output
    assert "table old_orders" in result.output
    assert "orders: resumed" in result.output
    cursor = _cursor(mongo_database_url)
    assert cursor["origin"] == origin | {"table": "orders"}
    assert cursor["paused"] is False
    assert "nothing was changed" in _run("adopt", "orders").output


@pytest.mark.usefixtures("place")
def test_adopt_leaves_a_feed_paused_that_was_paused_for_something_else(
    mongo_database_url: str,
) -> None:
    with MongoClient[dict[str, object]](mongo_database_url) as client:
        paused = {"_id": "orders", "version": 1, "paused": True, "paused_reason": "by an operator"}
        client.get_default_database()["cursors"].insert_one(paused)
    assert _run("adopt", "orders").exit_code == 0
    assert _cursor(mongo_database_url)["paused"] is True
