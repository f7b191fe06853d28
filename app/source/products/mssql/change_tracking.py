"""SQL Server's change tracking: which rows changed since a version, and whether it still knows.

Change tracking has to be enabled for the database and the table, and the login needs VIEW CHANGE
TRACKING on the table (Microsoft Learn: "Enable and disable change tracking", "CHANGETABLE",
"CHANGE_TRACKING_MIN_VALID_VERSION").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnClause,
    Connection,
    FromClause,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.sql import quoted_name

from app.source.findings import Finding, Level
from app.source.position_codec import Expression
from app.source.products.mssql.findings import ask
from app.source.products.product import ChangesSql
from app.source.table import Column, SourceTable, quoted_table

_RETENTION = text(
    "SELECT CAST(retention_period AS nvarchar(20)) + ' ' + LOWER(retention_period_units_desc) "
    "+ CASE is_auto_cleanup_on WHEN 1 THEN '' ELSE ' (AUTO_CLEANUP is off: for ever)' END "
    "FROM sys.change_tracking_databases WHERE database_id = DB_ID()"
)


def _changed(table: SourceTable, key: Sequence[Column]) -> FromClause:
    """`CHANGETABLE(CHANGES table, :since)`: a row that changed several times comes once, under its
    last version.
    """
    named = quoted_table(table.schema, table.name)
    columns: list[ColumnClause[Any]] = [
        column("SYS_CHANGE_VERSION", BigInteger),
        column("SYS_CHANGE_OPERATION"),
    ]
    columns += (column(quoted_name(part.name, quote=True)) for part in key)
    since = bindparam("since", 0, type_=BigInteger)
    return func.CHANGETABLE(literal_column(f"CHANGES {named}"), since).table_valued(
        *columns, name="changed"
    )


def _versioned(table: SourceTable, key: Sequence[Column]) -> FromClause:
    """Every row of the table with its last version, by `CHANGETABLE(VERSION table, (key),
    (values))`.

    The version is NULL where the row's last change is older than what is kept.
    """
    named, parts = quoted_table(table.schema, table.name), [_bracketed(part.name) for part in key]
    values = ", ".join(f"whole.{part}" for part in parts)
    version = f"CHANGETABLE(VERSION {named}, ({', '.join(parts)}), ({values})) AS versioned"
    rows = text(f"{named} AS whole OUTER APPLY {version}".replace(":", r"\:"))
    columns: list[Expression] = [
        literal_column(f"whole.{_bracketed(known.name)}").label(quoted_name(known.name, quote=True))
        for known in table.columns
    ]
    version_column = literal_column("versioned.SYS_CHANGE_VERSION", BigInteger).label(
        "SYS_CHANGE_VERSION"
    )
    return select(version_column, *columns).select_from(rows).subquery("whole_rows")


def _oldest(table: SourceTable) -> Expression:
    named = quoted_table(table.schema, table.name)
    return func.CHANGE_TRACKING_MIN_VALID_VERSION(func.OBJECT_ID(named)).label("oldest")


def _examine(connection: Connection, table: SourceTable) -> Iterator[Finding]:
    """Whether changes are tracked, and for how long they are kept."""
    oldest, error = ask(connection, select(_oldest(table)))
    if error is not None or oldest is None:
        why = f": {error}" if error else ""
        said = f"changes of table {table.name} are not tracked, or the login may not see them{why}; {ENABLE}"
        yield Finding("change tracking", Level.FAILED, said)
        return
    kept, error = ask(connection, _RETENTION)
    told = (
        f"changes are kept for {kept}"
        if kept
        else f"for how long changes are kept cannot be told: {error}"
    )
    said = f"{told}; a feed that reads nothing for longer has to read the whole table again"
    yield Finding("change tracking", Level.OK if kept else Level.WARNING, said)


def _bracketed(name: str) -> str:
    return f"[{name.replace(']', ']]')}]"


ENABLE = (
    "ALTER DATABASE <name> SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 14 DAYS, AUTO_CLEANUP = ON); "
    "ALTER TABLE <name> ENABLE CHANGE_TRACKING; GRANT VIEW CHANGE TRACKING ON <table> TO <login>"
)
CHANGES = ChangesSql(
    changed=_changed,
    versioned=_versioned,
    current=func.CHANGE_TRACKING_CURRENT_VERSION().label("version"),
    oldest=_oldest,
    examine=_examine,
    enable=ENABLE,
)
