"""`jobs`, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import main
from app.core.clock import utc_now
from app.core.period import Kind, period_of, previous
from app.ledger import Ledger
from tests.support.periodic import Office
from tests.unit.configuration.test_config import GOOD


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str) -> str:
    """A working directory with a feed, and a ledger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    monkeypatch.setenv("TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("COLUMNS", "250")
    return mongo_database_url


@pytest.mark.usefixtures("place")
def test_before_anything_ran_all_is_well() -> None:
    answer = CliRunner().invoke(main, ["jobs"])
    assert answer.exit_code == 0, answer.output
    assert answer.output.count("not seen yet") == 4
    assert "Europe/Berlin" in answer.output


def test_it_is_a_table_for_people_and_json_for_programs(place: str) -> None:
    asyncio.run(_overslept(place))
    answer = CliRunner().invoke(main, ["jobs", "--json"])
    assert answer.exit_code == 1, answer.output
    told = {job["job"]: job for job in json.loads(answer.output)["jobs"]}
    assert (told["purge"]["now"], told["purge"]["ok"], told["purge"]["misfire"]) == (
        "late",
        False,
        "once",
    )
    table = CliRunner().invoke(main, ["jobs"])
    assert (table.exit_code, "late" in table.output) == (1, True)


async def _overslept(url: str) -> None:
    """A purge that was due two hours ago."""
    ledger = Ledger.at(url, timedelta(seconds=5))
    zone = Office(ledger, "Europe/Berlin").zone
    period = previous(period_of(utc_now() - timedelta(hours=2), Kind.HOUR, zone), zone)
    await ledger.ticks.plan("purge", [(period, period.end)])
    await ledger.close()
