"""Brings the console's database to the schema of this version: one tree of migrations for all products."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.errors import ConfigError, Problem

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(engine: AsyncEngine, revision: str = "head") -> tuple[str | None, str | None]:
    """Go to that revision, upwards or down; returns the revisions before and after."""
    async with engine.begin() as connection:
        before = await connection.run_sync(_revision)
        await connection.run_sync(_go, revision)
        return before, await connection.run_sync(_revision)


async def require_current(engine: AsyncEngine) -> None:
    """Raise `ConfigError` where the schema is not that of this version."""
    async with engine.connect() as connection:
        found = await connection.run_sync(_revision)
    wanted = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if found != wanted:
        problem = Problem(
            "environment",
            "CONSOLE_DATABASE_URL",
            f"a database with schema {found or 'none'}, and this version needs {wanted}",
            "back it up, then run: python -m app console migrate",
        )
        raise ConfigError([problem])


def _go(connection: Connection, revision: str) -> None:
    """Alembic is told which connection to use: see `migrations/env.py`."""
    settings = AlembicConfig()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    current = _revision(connection)
    order = [one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    down = revision != "head" and (
        revision == "base"
        or (
            current in order
            and revision in order
            and order.index(revision) > order.index(current or "")
        )
    )
    (command.downgrade if down else command.upgrade)(settings, revision)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
