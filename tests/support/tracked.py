"""A table whose changes are tracked: by SQL Server itself, or by triggers on SQLite that keep what
it keeps.

A version a transaction, given at its commit; of each row its last change; and since which version
they are kept.
"""

# S608: the tests write SQL of their own, from their own constants.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import (
    BigInteger,
    Connection,
    FromClause,
    and_,
    bindparam,
    column,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError

from app.source.findings import Finding, Level
from app.source.position_codec import Expression
from app.source.products.product import ChangesSql, Product
from app.source.products.sqlite.product import SQLITE
from app.source.table import Column, SourceTable
from tests.support.sources import SourceTables

_COUNTED = table("ct_state", column("current"), column("oldest"))


def _changed(_: SourceTable, key: Sequence[Column]) -> FromClause:
    kept = table(
        "ct_changes",
        column("version", BigInteger),
        column("operation"),
        *(column(part.name) for part in key),
    )
    named = (
        kept.c.version.label("SYS_CHANGE_VERSION"),
        kept.c.operation.label("SYS_CHANGE_OPERATION"),
    )
    since = kept.c.version > bindparam("since", 0, type_=BigInteger)
    return select(*named, *(kept.c[part.name] for part in key)).where(since).subquery("changed")


def _versioned(source: SourceTable, key: Sequence[Column]) -> FromClause:
    kept = table("ct_changes", column("version", BigInteger), *(column(part.name) for part in key))
    whole = table(source.name, *(column(known.name) for known in source.columns))
    joined = whole.outerjoin(kept, and_(*(whole.c[part.name] == kept.c[part.name] for part in key)))
    return (
        select(kept.c.version.label("SYS_CHANGE_VERSION"), *whole.c)
        .select_from(joined)
        .subquery("whole_rows")
    )


def _examine(connection: Connection, source: SourceTable) -> list[Finding]:
    oldest = connection.execute(select(_COUNTED.c.oldest)).scalar()
    return [
        Finding(
            "change tracking",
            Level.FAILED if oldest is None else Level.OK,
            f"{source.name}: {oldest}",
        )
    ]


def _oldest(_: SourceTable) -> Expression:
    return select(_COUNTED.c.oldest).scalar_subquery()


TRACKING_SQLITE: Product = replace(
    SQLITE,
    cursors=SQLITE.cursors
    and replace(
        SQLITE.cursors,
        changes=ChangesSql(
            changed=_changed,
            versioned=_versioned,
            current=select(_COUNTED.c.current).scalar_subquery(),
            oldest=_oldest,
            examine=_examine,
            enable="ENABLE CHANGE_TRACKING",
        ),
    ),
)


@dataclass
class Tracked:
    """A table `orders` (id, note), whose changes are tracked from `track` on."""

    tables: SourceTables

    @property
    def name(self) -> str:
        return self.tables.named("orders")

    async def make(self, *ids: int) -> None:
        """The table, with rows that nobody tracked."""
        await self.tables.make("orders", id="BIGINT NOT NULL PRIMARY KEY", note="NVARCHAR")
        for number in ids:
            await self.tables.run(f"INSERT INTO {self.name} (id, note) VALUES ({number}, 'old')")  # noqa: S608 - names of ours

    async def track(self) -> None:
        if self.tables.mssql:
            await self._enable()
            return
        await self.tables.run(
            "CREATE TABLE ct_state (current INTEGER, oldest INTEGER)",
            "CREATE TABLE ct_changes (id BIGINT PRIMARY KEY, version INTEGER, operation TEXT)",
            "INSERT INTO ct_state VALUES (40, 40)",
        )
        for event, row, letter in (
            ("INSERT", "NEW", "I"),
            ("UPDATE", "NEW", "U"),
            ("DELETE", "OLD", "D"),
        ):
            await self.tables.run_plain(
                f"CREATE TRIGGER ct_{event} AFTER {event} ON orders BEGIN INSERT OR REPLACE INTO ct_changes "  # noqa: S608 - names of ours
                f"VALUES ({row}.id, (SELECT current FROM ct_state), '{letter}'); END"
            )

    async def _enable(self) -> None:
        on = "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 2 DAYS, AUTO_CLEANUP = ON)"
        tracked = text(
            "SELECT COUNT(*) FROM sys.change_tracking_databases WHERE database_id = DB_ID()"
        )
        try:
            async with self.tables.engine.connect() as connection:
                if not (await connection.execute(tracked)).scalar_one():
                    await connection.execute(text(on))
                await connection.execute(text(f"ALTER TABLE {self.name} ENABLE CHANGE_TRACKING"))
        except DBAPIError as error:
            pytest.skip(
                f"the server of TEST_MSSQL_URL has no change tracking, or not for this login: {error.orig}"
            )

    async def commit(self, *statements: str) -> int:
        """Statements on `{orders}`, in one transaction. Returns the version that it has."""
        written = [statement.format(orders=self.name) for statement in statements]
        if not self.tables.mssql:
            await self.tables.run("UPDATE ct_state SET current = current + 1", *written)
            return await self._ask("SELECT current FROM ct_state")
        async with self.tables.transaction() as connection:
            for statement in written:
                await connection.execute(text(statement))
        return await self._ask("SELECT CHANGE_TRACKING_CURRENT_VERSION()")

    async def insert(self, *ids: int, note: str = "new") -> int:
        rows = ", ".join(f"({number}, '{note}')" for number in ids)
        return await self.commit(f"INSERT INTO {{orders}} (id, note) VALUES {rows}")  # noqa: S608 - names of ours

    async def update(self, number: int, note: str) -> int:
        return await self.commit(f"UPDATE {{orders}} SET note = '{note}' WHERE id = {number}")  # noqa: S608 - names of ours

    async def delete(self, number: int) -> int:
        return await self.commit(f"DELETE FROM {{orders}} WHERE id = {number}")  # noqa: S608 - names of ours

    async def truncate(self) -> None:
        """Drops the rows, and what is kept of their changes with them."""
        if self.tables.mssql:
            await self.tables.run(f"TRUNCATE TABLE {self.name}")
            return
        await self.tables.run(
            "UPDATE ct_state SET current = current + 1",
            "DELETE FROM orders",
            "DELETE FROM ct_changes",
            "UPDATE ct_state SET oldest = current",
        )

    async def clean_up(self) -> None:
        """Forget the changes up to now, as the retention period does. SQLite only."""
        await self.tables.run("DELETE FROM ct_changes", "UPDATE ct_state SET oldest = current")

    async def rows(self) -> dict[str, str]:
        """Key → note, as the table is."""
        async with self.tables.engine.connect() as connection:
            found = await connection.execute(text(f"SELECT id, note FROM {self.name}"))  # noqa: S608 - names of ours
            return {str(number): note for number, note in found}

    async def _ask(self, question: str) -> int:
        async with self.tables.engine.connect() as connection:
            return int((await connection.execute(text(question))).scalar_one())
