"""From `CONSOLE_DATABASE_URL` to an open engine: SQLite in a file, PostgreSQL or SQL Server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.errors import ConfigError, Problem
from app.source.engine import async_url, source_name
from app.source.products.product import Timeouts
from app.source.products.registry import product_of
from config import Settings

SETTING = "CONSOLE_DATABASE_URL"
RECYCLE_SECONDS = 1800
"""Firewalls forget connections that are older."""
WRITING = "writing"
"""The execution option of a transaction that will write: see `_begin`."""


def store_url(settings: Settings) -> URL:
    """The URL with its async driver. Raises `ConfigError` for one of no database that is supported."""
    return make_url(async_url(settings.console_database_url.get_secret_value(), SETTING))


def open_engine(settings: Settings) -> AsyncEngine:
    """An engine with a pool; it connects on first use. Raises `ConfigError` as above, and for a driver
    that cannot be loaded.

    A connection is tested before it is used, and replaced after half an hour.
    """
    url = store_url(settings)
    sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = create_async_engine(
            _file_of(url) if sqlite else product_of(url).prepare_url(url),
            connect_args=_connect_args(url, settings),
            hide_parameters=True,
            pool_size=settings.console_pool_size,
            max_overflow=settings.console_pool_overflow,
            pool_timeout=settings.console_pool_wait.total_seconds(),
            pool_recycle=RECYCLE_SECONDS,
            pool_pre_ping=not sqlite,
        )
    except ImportError as error:
        problem = Problem(
            "environment",
            SETTING,
            f"{url.drivername}, which cannot be loaded: {error}",
            "install that driver",
        )
        raise ConfigError([problem]) from error
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin)
    return engine


def sqlite_file(settings: Settings) -> Path | None:
    """The file of the database, where it is SQLite's."""
    url = store_url(settings)
    if url.get_backend_name() != "sqlite":
        return None
    return Path(url.database or "")


def _file_of(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        problem = Problem(
            "environment",
            SETTING,
            "an SQLite database in memory",
            "name a file: sqlite:///console.db",
        )
        raise ConfigError([problem])
    if not os.path.lexists(url.database):  # it will hold hashes of passwords, and who did what
        try:
            os.close(os.open(url.database, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            found = f"{source_name(url)}, which cannot be opened: {error.strerror}"
            do = "a file in a directory that is there and can be written"
            raise ConfigError([Problem("environment", SETTING, found, do)]) from error
    return url


def _connect_args(url: URL, settings: Settings) -> dict[str, Any]:
    timeouts = Timeouts(
        settings.connect_timeout.total_seconds(), settings.statement_timeout.total_seconds()
    )
    if url.get_backend_name() == "sqlite":
        return {"timeout": timeouts.connect}
    return dict(product_of(url).connect_args(timeouts))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Make SQLite fit for a server: readers beside a writer, foreign keys, and our own BEGIN."""
    connection.isolation_level = None  # else the driver begins a transaction when it likes
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Any) -> None:
    """A transaction that will write takes the writer's lock at once: one that took it later could
    not wait for it."""
    writing = connection.get_execution_options().get(WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
