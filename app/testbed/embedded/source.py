"""A SQLite file in the place of SQL Server: one table that grows, `orders`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

TABLE = "orders"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    customer   TEXT NOT NULL,
    amount     NUMERIC(12, 2) NOT NULL,
    note       TEXT NOT NULL,
    created_at TEXT NOT NULL
)
"""

BUSY_SECONDS = 30.0
"""How long a writer waits for another one: SQLite lets in one at a time."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for writing, with transactions begun and ended by hand.

    A statement waits up to `BUSY_SECONDS` for another writer and then raises
    `sqlite3.OperationalError`.
    """
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def create_source(path: Path) -> str:
    """Make the file and its table where they do not exist. Returns the file's SQLAlchemy URL.

    The file is in WAL mode, so that reading never waits for the writer
    (https://sqlite.org/wal.html).
    """
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_SCHEMA)
    return f"sqlite+aiosqlite:///{path.resolve()}"
