"""Every command that a message of ours suggests runs as it is printed."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli.demo import ways_to_look
from app.cli.main import main
from app.core.clock import utc_now
from app.core.rows import SourceRow
from app.ledger import Ledger
from tests.support.ledger import batch_of

ROOT = Path(__file__).resolve().parents[3]
VERBS = "compares|says|shows|makes|examines"
"""What a sentence goes on with behind a command."""
SUGGESTED = re.compile(rf"python -m app (?P<words>[a-z].*?)\.?(?=[;,)<`\n]|: |$| (?:{VERBS}) )")
FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://127.0.0.1:1/" }
"""

STANDS_FOR = {
    **dict.fromkeys(
        ("feed", "feed.name", "made.feed", "name", "self._feed.name", "self.selection.feed.name"),
        "orders",
    ),
    **dict.fromkeys(
        (
            "shlex.quote(delivery['_id'])",
            "shlex.quote(delivery_id)",
            "shlex.quote(found.stored_id)",
            "shlex.quote(subject.delivery.id)",
        ),
        "orders:1",
    ),
    "state": " --state cancelled",
}
"""What a message fills in → an example. A new expression is to be added here."""


def messages() -> Iterator[tuple[str, str]]:
    """Every text of the program that suggests a command, filled in; and where it is."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("app/**/*.py"), *ROOT.glob("tasks/**/*.py")]:
        source = path.read_text(encoding="utf-8")
        if "python -m" not in source:
            continue
        tree = ast.parse(source)
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docs | parts:
                text = filled(node)
                if SUGGESTED.search(text):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text
    for path in ROOT.glob("app/**/*.html"):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def filled(node: ast.Constant | ast.JoinedStr) -> str:
    """The text, with an example for each expression in it; one that is not known stays in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("{subject}", "orders")
    told = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            source = ast.unparse(part.value)
            told.append(STANDS_FOR.get(source, f"{{{source}}}"))
        elif isinstance(part, ast.Constant):
            told.append(str(part.value))
    return "".join(told)


COMMANDS = sorted({found["words"] for _, text in messages() for found in SUGGESTED.finditer(text)})


def test_they_are_found() -> None:
    """So that none is overlooked: of each kind that there is."""
    assert len(COMMANDS) >= 10
    for words in (
        "deliveries show",
        "feeds resume",
        "feeds rewind",
        "feeds adopt",
        "reconcile",
        "replay",
        "cancel",
    ):
        assert any(command.startswith(words) for command in COMMANDS), words
    assert not [command for command in COMMANDS if "{" in command], (
        "say in STANDS_FOR what an expression stands for"
    )


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, clean_redis_url: str
) -> Path:
    """Where an operator sits: a feed, two rows, and a dead letter of one of them."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, 'x')", [(1,), (2,)])
        connection.commit()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("REDIS_URL", clean_redis_url)

    async def log_dead() -> None:
        ledger = Ledger.at(mongo_database_url, timedelta(seconds=5))
        await ledger.deliveries.log([(batch_of(1), [SourceRow("1", 1, '{"id": 1}')])], utc_now())
        dead = {"$set": {"state": "dead", "finished_at": utc_now()}, "$unset": {"batch": ""}}
        await ledger._database["deliveries"].update_many({}, dead)
        await ledger.close()

    asyncio.run(log_dead())
    return tmp_path


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_suggested_command_runs_as_it_is_printed(command: str) -> None:
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code in (0, 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_what_the_demo_prints_while_it_stays_is_what_a_shell_takes() -> None:
    lines = [
        shlex.split(line)
        for line in ways_to_look({"MONGO_URL": "mongodb://a:b@c/d e"}, "http://127.0.0.1:1")
    ]
    assert lines[0] == ["cd", str(ROOT)]
    assert ["export", "MONGO_URL=mongodb://a:b@c/d e"] in lines
    ours = [words[3:] for words in lines if words[:3] == [sys.executable, "-m", "app"]]
    assert len(ours) == 4
    for words in ours:
        assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Every command, by its full name."""
    if of_it := getattr(group, "commands", None):
        for name, command in of_it.items():
            yield from commands(command, *names, name)
    else:
        yield " ".join(names), group


NO_JSON = {"metrics": "a server", "watch": "runs a command"}


def test_every_command_that_tells_something_tells_it_as_json() -> None:
    without = {
        name
        for name, command in commands(typer.main.get_command(main))
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == NO_JSON.keys()
