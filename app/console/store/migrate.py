"""Brings the console's database to the schema of this version: one tree of migrations for all products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.console.store.engine import SETTING
from app.core.errors import ConfigError, Problem
from app.core.unreached import why_unreached
from app.source.engine import source_name

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(engine: AsyncEngine, revision: str = "head") -> tuple[str | None, str | None]:
    """Go to that revision, upwards or down; returns the revisions before and after. Raises
    `ConfigError` for a revision that there is not, and for a database that cannot be opened."""
    if revision not in ("head", "base", *_revisions()):
        known = ", ".join(("head", "base", *_revisions()))
        raise ConfigError([Problem("migrate", "revision", revision, f"one of {known}")])
    with _opened(engine):
        async with engine.begin() as connection:
            before = await connection.run_sync(_revision)
            if before == (_revisions()[0] if revision == "head" else revision):
                return before, before
            await connection.run_sync(_go, revision)
            return before, await connection.run_sync(_revision)


async def require_current(engine: AsyncEngine) -> None:
    """Raise `ConfigError` where the schema is not that of this version, or the database cannot be
    opened."""
    with _opened(engine):
        async with engine.connect() as connection:
            found = await connection.run_sync(_revision)
    wanted = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if found != wanted:
        problem = Problem(
            "environment",
            SETTING,
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
    order = _revisions()
    down = revision != "head" and (
        revision == "base"
        or (
            current in order
            and revision in order
            and order.index(revision) > order.index(current or "")
        )
    )
    (command.downgrade if down else command.upgrade)(settings, revision)


@contextmanager
def _opened(engine: AsyncEngine) -> Iterator[None]:
    """Say in one line why the database cannot be opened; its password is not shown."""
    try:
        yield
    except (DBAPIError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        found = f"{source_name(engine.url)}, which cannot be opened: {why_unreached(cause)}"
        do = "a database that can be reached, and a login that may create tables"
        raise ConfigError([Problem("environment", SETTING, found, do)]) from error


def _revisions() -> list[str]:
    """The migrations, the newest first."""
    return [one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
