"""What the console keeps on disk: its secret whole or not at all, and nothing for others of the machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.console.security.access_tokens import secret_of
from app.console.store.engine import open_engine
from app.core.errors import ConfigError
from tests.support.console import console_config


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    """Of a console over SQLite, which names no secret."""
    return console_config(tmp_path, "mongodb://127.0.0.1/x", "redis://127.0.0.1/0").settings


def test_the_secret_is_made_once_for_its_owner_alone(settings: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as many:
        made = set(many.map(lambda _: secret_of(settings), range(16)))
    assert len(made) == 1
    assert len(made.pop()) >= 64
    kept = tmp_path / "console.db.secret"
    assert kept.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]


@pytest.mark.parametrize("found", ["", "\n", "short", "x" * 31])
def test_a_file_with_half_a_secret_signs_nothing(settings: Any, tmp_path: Path, found: str) -> None:
    (tmp_path / "console.db.secret").write_text(found)
    with pytest.raises(ConfigError, match=r"console\.db\.secret"):
        secret_of(settings)


def test_a_secret_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path}/nowhere/console.db"
    configured = console_config(
        tmp_path, "mongodb://127.0.0.1/x", "redis://127.0.0.1/0", console_database_url=nowhere
    )
    with pytest.raises(ConfigError, match=r"nowhere/console\.db\.secret cannot be kept"):
        secret_of(configured.settings)


async def test_the_database_is_for_its_owner_alone(settings: Any, tmp_path: Path) -> None:
    engine = open_engine(settings)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE x (y)")
        modes = _modes(tmp_path)  # while there is a log beside it
    await engine.dispose()
    assert {"console.db", "console.db-wal"} <= modes.keys()
    assert not any(mode & 0o077 for mode in modes.values()), modes


def _modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode for path in directory.iterdir()}
