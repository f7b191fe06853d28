"""A console for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.console import Consoled, cheap_passwords, console_config, running_console


@pytest.fixture
async def console(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Consoled]:
    """A console over SQLite, with one feed, `orders`."""
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    configured = console_config(tmp_path, mongo_database_url, clean_redis_url)
    async with running_console(configured) as running:
        yield running
