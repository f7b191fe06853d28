"""The audit log: read with filters, exported, and verified so that no tampering goes unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

import config
from app.cli.main import main
from app.console.audit.service import Audit
from app.console.audit.verification import Known
from app.console.security.roles import Role
from app.console.store.engine import open_engine
from app.console.store.migrate import migrate
from app.console.store.store import Store
from tests.support.console import SHELL, Consoled
from tests.support.harmless import assert_harmless
from tests.support.hostile import SCRIPTS
from tests.support.tampering import TAMPERINGS, Tampering, tamper
from tests.unit.configuration.test_config import GOOD

AUDIT = "/api/v1/audit"


@dataclass(frozen=True, slots=True)
class Kept:
    """An audit log, and where it is kept."""

    log: Audit
    store: Store


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[Kept]:
    """An audit log over SQLite, and nothing else."""
    settings = config.Settings(console_database_url=SecretStr(f"sqlite:///{tmp_path}/console.db"))
    store = Store(open_engine(settings))
    await migrate(store.engine)
    yield Kept(Audit(store), store)
    await store.close()


async def _noted(audit: Audit, entries: int = 6) -> None:
    for number in range(entries):
        await audit.note(
            SHELL, "feed.paused", f"orders {number}", why="tried out", before={"paused": False},
            after={"paused": True, "number": number},
        )  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=str)
async def test_the_first_entry_that_was_tampered_with_is_found(
    audit: Kept, tampering: Tampering
) -> None:
    await _noted(audit.log)
    assert (await audit.log.verify()).wrong is None
    wrong = await tamper(audit.store.engine, tampering)
    verified = await audit.log.verify()
    assert verified.wrong == wrong, verified
    assert str(wrong) in verified.said
    assert verified.entries == max(wrong - 1, 0)


async def test_a_chain_longer_than_what_is_held_at_once_is_verified_to_its_last_entry(
    audit: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.audit.verification.AT_ONCE", 4)
    monkeypatch.setattr("app.console.audit.service.AT_ONCE", 4)
    await _noted(audit.log, 10)
    verified = await audit.log.verify()
    assert (verified.entries, verified.wrong) == (10, None)
    for name, wrong in {"edited: the last": 10, "edited: no date": 3}.items():
        await tamper(audit.store.engine, next(one for one in TAMPERINGS if one.name == name))
        assert (await audit.log.verify()).wrong == wrong


async def test_a_chain_written_anew_is_found_by_a_hash_that_was_noted_elsewhere(
    audit: Kept,
) -> None:
    await _noted(audit.log)
    before = await audit.log.verify()
    known = Known(before.entries, before.last_hash)
    assert (await audit.log.verify(known)).wrong is None
    forged = Known(before.entries, "f" * 64)
    assert (await audit.log.verify(forged)).wrong == before.entries
    later = Known(before.entries + 4, "f" * 64)
    assert (await audit.log.verify(later)).wrong == before.entries + 1


def test_the_command_names_the_entry_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("CONSOLE_DATABASE_URL", f"sqlite:///{tmp_path}/console.db")
    runner = CliRunner()
    for name in ("mai", "vy", "an"):
        assert runner.invoke(main, ["console", "add-user", name]).exit_code == 0
    right = runner.invoke(main, ["console", "audit", "verify"])
    assert right.exit_code == 0, right.output
    assert "3 entries, each as it was written" in right.output
    noted = right.output.rpartition("elsewhere: ")[2].strip()
    assert noted.startswith("3:")
    assert runner.invoke(main, ["console", "audit", "verify", "--known", noted]).exit_code == 0
    assert runner.invoke(main, ["console", "audit", "verify", "--known", "3"]).exit_code == 2
    _edit(tmp_path / "console.db", "UPDATE audit_entries SET subject = 'nobody' WHERE number = 2")
    wrong = runner.invoke(main, ["console", "audit", "verify"])
    assert wrong.exit_code == 1
    assert "audit: entry 2 is not what was written" in wrong.stderr
    told = runner.invoke(main, ["console", "audit", "verify", "--json"])
    assert orjson.loads(told.stdout)["wrong"] == 2


def _edit(file: Path, statement: str) -> None:
    import sqlite3

    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()


async def test_entries_are_filtered_and_paged_the_latest_first(console: Consoled) -> None:
    await _noted(console.services.audit)
    viewer = await console.logged_in(Role.VIEWER)
    first = (await viewer.get(AUDIT, params={"action": "feed", "limit": 4})).json()
    rest = (
        await viewer.get(AUDIT, params={"action": "feed", "limit": 4, "after": first["next"]})
    ).json()
    subjects = [entry["subject"] for entry in first["items"] + rest["items"]]
    assert subjects == [f"orders {number}" for number in range(5, -1, -1)]
    assert rest["next"] is None
    assert first["items"][0]["after"] == {"number": 5, "paused": True}

    async def count(**asked: str) -> int:
        answer = await viewer.get(AUDIT, params=asked)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"])

    assert await count(action="feed.paused", subject="ders 3") == 1
    assert await count(subject="%") == 0
    assert await count(who="viewer") > 0
    assert await count(who="VIEWER") == 0
    now = datetime.now(UTC)
    assert await count(action="feed", since=(now - timedelta(hours=1)).isoformat()) == 6
    assert await count(action="feed", until=(now - timedelta(hours=1)).isoformat()) == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "yesterday"},
        {"since": "2026-05-31T14:30:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"who": "a\x00b"},
        {"subject": "x" * 601},
        {"after": "nonsense"},
        {"after": "WzE4NDQ2NzQ0MDczNzA5NTUxNjE1XQ"},
        {"limit": "0"},
    ],
    ids=str,
)
async def test_a_filter_that_makes_no_sense_is_refused(
    console: Consoled, asked: dict[str, str]
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert (await viewer.get(AUDIT, params=asked)).status_code == 422


async def test_the_export_is_enough_to_verify_the_chain_elsewhere(console: Consoled) -> None:
    await _noted(console.services.audit)
    viewer = await console.logged_in(Role.VIEWER)
    answer = await viewer.get(f"{AUDIT}/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    previous, entries = "0" * 64, [orjson.loads(line) for line in answer.content.splitlines()]
    assert [entry["number"] for entry in entries] == [*range(1, len(entries) + 1)]
    for entry in entries:
        *fields, written = entry.values()
        assert entry["previous_hash"] == previous
        assert hashlib.sha256(orjson.dumps(fields)).hexdigest() == written
        previous = written
    assert previous == (await viewer.get(f"{AUDIT}/verify")).json()["last_hash"]


async def test_the_page_keeps_its_filters_and_says_what_verifying_found(console: Consoled) -> None:
    await _noted(console.services.audit, 60)
    viewer = await console.logged_in(Role.VIEWER)
    page = await viewer.get("/admin/audit", params={"action": "feed", "subject": "orders"})
    assert page.status_code == 200
    assert 'value="orders"' in page.text
    assert "action=feed&amp;subject=orders&amp;after=" in page.text
    assert "<del>false</del>" in page.text
    assert "<ins>true</ins>" in page.text
    wrong = await tamper(console.services.store.engine, TAMPERINGS[0])
    verified = await viewer.get("/admin/audit/verify")
    assert f"entry {wrong} is not what was written" in verified.text
    place = verified.text.partition(' href="/admin/audit?after=')[2].partition('"')[0]
    assert f'id="entry-{wrong}"' in (await viewer.get(f"/admin/audit?after={place}")).text


@pytest.mark.parametrize("field", ["since", "after"])
async def test_a_filter_of_the_page_that_makes_no_sense_says_so(
    console: Consoled, field: str
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    page = await viewer.get("/admin/audit", params={field: "<b>soon"})
    assert page.status_code == 422
    assert 'role="alert"' in page.text
    assert "<b>soon" not in page.text


async def test_hostile_text_in_any_field_is_shown_as_text(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for text in SCRIPTS:
        await console.services.audit.note(
            SHELL, text[:60], text, why=text, before={text: text}, after={text: {"in": text}}
        )
        filtered = {"who": text, "action": text, "subject": text, "since": text}
        assert_harmless(await viewer.get("/admin/audit", params=filtered))
    assert_harmless(await viewer.get("/admin/audit"), shows=True)
