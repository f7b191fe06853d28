"""`feeds preview`, as an operator runs it: the exact request, no secret, and nothing sent."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import config
from app.cli.main import main
from app.core.cursors import Cursor
from app.core.rows import NewForm, Page, SourceRow
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.doubles import MemoryQueue
from tests.support.ledger import LEASE, NOW

FEEDS = """
[feeds.orders]
table = "orders"
key = ["shop", "id"]
cursor = { strategy = "identity", column = "id" }
filter = [{ column = "id", op = "<", value = 100 }]

[feeds.orders.body]
reference = "$id"
api_token = "${PLANTED}-in-the-body"
customer.note = "$note"

[feeds.orders.partner]
url = "http://us:${PLANTED}@127.0.0.1:1/rows?token=${PLANTED}-in-the-query&v=1"
method = "PUT"
auth = { type = "api_key", key = "${PLANTED}-in-the-header" }
headers = { "X-Shop" = "$shop", "X-Session" = "${PLANTED}-static-token" }
signing = { secrets = ["whsec_c2lnbmVkLXdpdGgtcGxhbnRlZC1zZWNyZXQ="] }
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str) -> Path:
    """A working directory with a feed, and a source of two rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    (tmp_path / "planted").write_text("pl4nted\n", encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute(
            "CREATE TABLE orders (shop TEXT, id INTEGER, note TEXT, PRIMARY KEY (shop, id))"
        )
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, 'from the source')", [("A B", 7), ("A B", 700)]
        )
        connection.commit()
    monkeypatch.setenv("SOURCE_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("PLANTED_FILE", str(tmp_path / "planted"))
    return tmp_path


def preview(key: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["feeds", "preview", "orders", "--key", key, *options])


@pytest.mark.usefixtures("place")
def test_the_request_for_a_row_of_the_source_is_shown_with_its_secrets_masked() -> None:
    result = preview("A%20B:7", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["row_from"] == "source"
    assert (shown["method"], shown["url"]) == ("PUT", "http://127.0.0.1:1/rows?token=[secret]&v=1")
    assert json.loads(shown["body"]) == {
        "reference": 7,
        "api_token": "[secret]",
        "customer": {"note": "from the source"},
    }
    headers = shown["headers"]
    assert headers["idempotency-key"] == headers["webhook-id"] == "orders:A%20B:7"
    assert (headers["x-shop"], headers["x-api-key"], headers["webhook-signature"]) == (
        "A B",
        "[secret]",
        "[secret]",
    )
    assert headers["content-length"].isdecimal()
    assert headers["x-session"] == "[secret]-static-token"
    assert "pl4nted" not in result.output


def test_a_row_of_the_ledger_is_shown_as_it_was_logged(
    place: Path, mongo_database_url: str
) -> None:
    del place
    row = SourceRow("A%20B:7", 7, '{"shop":"A B","id":7,"note":"from the ledger"}')

    async def log_row() -> None:
        ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
        batch = new_batch("orders", [f"orders:{row.key}"])
        await ledger.deliveries.log([(batch, [row])], NOW)
        await ledger.close()

    asyncio.run(log_row())
    output = preview("A%20B:7").output
    assert output.startswith(
        "# orders:A B:7: row from the ledger; nothing was sent\nPUT http://127.0.0.1:1/rows?token=[secret]&v=1\n"
    )
    assert '"note":"from the ledger"' in output


def test_a_row_of_the_source_is_shown_with_the_columns_that_are_agreed(
    place: Path, mongo_database_url: str
) -> None:
    """A column that came since is not sent before a poll agrees on it."""
    plain = "\n".join(
        line
        for line in FEEDS.splitlines()
        if not line.startswith(("[feeds.orders.body", "reference"))
    )
    plain = plain.replace('api_token = "${PLANTED}-in-the-body"\ncustomer.note = "$note"', "")
    (place / "feeds.toml").write_text(plain, encoding="utf-8")

    async def agree() -> None:
        ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
        form = NewForm((("shop", "TEXT"), ("id", "INTEGER"), ("note", "TEXT")))
        await ledger.cursors.advance(Cursor("orders"), Page((), 7, (), full=False, form=form), NOW)
        await ledger.close()

    asyncio.run(agree())
    with closing(sqlite3.connect(place / "shop.db")) as connection:
        connection.execute("ALTER TABLE orders ADD COLUMN added TEXT DEFAULT 'x'")
        connection.commit()
    shown = json.loads(preview("A%20B:7", "--json").stdout)
    assert json.loads(shown["body"]) == {"shop": "A B", "id": 7, "note": "from the source"}


@pytest.mark.usefixtures("place")
def test_a_row_that_would_not_be_sent_is_told_with_the_reason() -> None:
    for options in ((), ("--json",)):
        result = preview("A%20B:700", *options)
        assert result.exit_code == 1
        assert "filter: not id < 100" in result.output


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (
            "A%20B:8",
            "feed orders: no row with key 'A%20B:8', neither in the ledger nor in the source",
        ),
        ("7", "feed orders: key '7' has 1 parts; its key is shop, id"),
        ("A:x", "feed orders: no row with key 'A:x', neither in the ledger nor in the source"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_row_that_is_not_there_is_one_clear_line(key: str, told: str) -> None:
    result = preview(key)
    assert result.exit_code == 1
    assert result.stderr == f"rowrelay: {told}\n"


def test_an_access_token_is_not_fetched_for_a_look(place: Path) -> None:
    auth = 'auth = { type = "oauth2", token_url = "http://127.0.0.1:1/t", client_id = "us", client_secret = "x" }'
    feeds = FEEDS.replace('auth = { type = "api_key", key = "${PLANTED}-in-the-header" }', auth)
    (place / "feeds.toml").write_text(feeds, encoding="utf-8")
    headers = json.loads(preview("A%20B:7", "--json").stdout)["headers"]
    assert headers["authorization"] == "Bearer [access token, fetched when sending]"


CHANGES = """
[feeds.orders]
table = "orders"
key = ["shop", "id"]
capture = "changes"
cursor = { strategy = "rowversion", column = "rv" }
partner = { url = "http://127.0.0.1:1/rows" }
"""


@pytest.fixture
def changing(place: Path) -> Path:
    """As `place`; each update of a row is a delivery of its own."""
    (place / "feeds.toml").write_text(CHANGES, encoding="utf-8")
    sql(place, "ALTER TABLE orders ADD COLUMN rv INTEGER")
    sql(place, "UPDATE orders SET rv = id")
    return place


def sql(place: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(place / "shop.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def poll(place: Path, ledger_url: str) -> None:
    async def polled() -> None:
        ledger = Ledger.at(ledger_url, timedelta(seconds=5))
        source = Source(open_engine(f"sqlite:///{place}/shop.db", timedelta(seconds=5)))
        try:
            await Polling(source, ledger, MemoryQueue(), message_wait=LEASE).poll(
                config.load().feeds["orders"]
            )
        finally:
            await source.close()
            await ledger.close()

    asyncio.run(polled())


def test_of_a_row_with_changes_the_deliverys_own_id_is_shown(
    changing: Path, mongo_database_url: str
) -> None:
    """By its key the change that the row is now, whether it is logged or not; by an id the change
    of that id.
    """
    ids = []
    for version in (1001, 1002, 1003):
        sql(changing, "UPDATE orders SET rv = ?, note = 'v' || ? WHERE id = 7", version, version)
        if version < 1003:
            poll(changing, mongo_database_url)
        shown = json.loads(preview("A B:7", "--json").stdout)
        assert shown["row_from"] == ("ledger" if version < 1003 else "source")
        assert json.loads(shown["body"])["note"] == f"v{version}"
        assert shown["headers"]["idempotency-key"] == shown["delivery"]
        ids.append(shown["delivery"])
    assert ids == [f"orders:A%20B:7:0x{version:016X}" for version in (1001, 1002, 1003)]
    for key in (ids[0], ids[0].removeprefix("orders:"), "A B:7:0x00000000000003E9"):
        shown = json.loads(preview(key, "--json").stdout)
        assert (shown["delivery"], json.loads(shown["body"])["note"]) == (ids[0], "v1001")
    sql(changing, "DELETE FROM orders WHERE id = 7")
    assert json.loads(preview("A B:7", "--json").stdout)["delivery"] == ids[1]


def test_a_change_that_is_too_large_is_shown_under_its_own_id(changing: Path) -> None:
    (changing / "feeds.toml").write_text(
        CHANGES.replace("cursor =", "max_payload = 2000\ncursor ="), encoding="utf-8"
    )
    sql(changing, "UPDATE orders SET rv = 1001, note = ? WHERE id = 7", "x" * 20_000)
    result = preview("A B:7", "--json")
    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["sent"]) == (1, False)
    assert "max_payload" in shown["reason"]
    assert shown["delivery"] == "orders:A%20B:7:0x00000000000003E9"


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("key", ["A B:7", "A%20B:7", "orders:A B:7", "orders:A%20B:7"])
def test_a_row_of_the_source_is_found_as_people_write_its_key(key: str) -> None:
    assert json.loads(preview(key, "--json").stdout)["delivery"] == "orders:A%20B:7"


def test_a_row_of_the_ledger_is_found_as_people_write_its_key(
    place: Path, mongo_database_url: str
) -> None:
    poll(place, mongo_database_url)
    for key in ("A B:7", "A%20B:7", "orders:A B:7"):
        shown = json.loads(preview(key, "--json").stdout)
        assert (shown["delivery"], shown["row_from"]) == ("orders:A%20B:7", "ledger")


@pytest.mark.usefixtures("place")
def test_an_unknown_feed_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["feeds", "preview", "ordres", "--key", "7"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "feed 'ordres': not configured; known feeds: orders" in result.stderr
