"""What only SQL Server is asked about: version and driver, isolation, and whether versions can be
trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.core.shown import one_line
from app.feeds.feed import Feed
from app.source.findings import Finding, Level
from app.source.products.mssql import errors as mssql_errors
from app.source.products.mssql.odbc import driver_of

_SERVER = text(
    "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)), CAST(SERVERPROPERTY('Edition') AS nvarchar(128))"
)
_SNAPSHOT = text("SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = DB_NAME()")
_UPDATEABLE = text("SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(128))")
_IS_VIEW = text("SELECT OBJECTPROPERTY(OBJECT_ID(:name), 'IsView')")
_OTHER_DATABASE = text(
    "SELECT TOP 1 referenced_database_name FROM sys.sql_expression_dependencies "
    "WHERE referencing_id = OBJECT_ID(:name) AND referenced_database_name <> DB_NAME()"
)
_LOWEST_ACTIVE = text("SELECT MIN_ACTIVE_ROWVERSION()")


def describe(connection: Connection) -> str:
    """Product, version, edition, and the ODBC driver: `SQL Server 16.0.1000.6, Developer Edition
    (64-bit), by …`.
    """
    version, edition = connection.execute(_SERVER).one()
    return (
        f"SQL Server {version}, {edition}, by {driver_of(connection.connection.driver_connection)}"
    )


def examine(connection: Connection, feed: Feed) -> Iterator[Finding]:
    """How reads and writers get on with each other."""
    del feed
    yield _isolation(connection)


def read_only(connection: Connection) -> bool:
    """Whether the database takes no writes here: it may be a replica."""
    updateable, _ = ask(connection, _UPDATEABLE)
    return bool(updateable == "READ_ONLY")


def examine_versions(connection: Connection, feed: Feed) -> Iterator[Finding]:
    """Whether MIN_ACTIVE_ROWVERSION() may be asked, and speaks for the feed's versions."""
    yield _versions(connection)
    yield from _of_view(connection, feed)


def _isolation(connection: Connection) -> Finding:
    found, error = ask(connection, _SNAPSHOT)
    if error is not None:
        return Finding("isolation", Level.WARNING, f"cannot be told: {error}")
    if found:
        return Finding(
            "isolation", Level.OK, "READ_COMMITTED_SNAPSHOT is on: reads take no row locks"
        )
    said = "READ_COMMITTED_SNAPSHOT is off: a read locks each row while it reads it, and waits up to 5 s for a writer"
    return Finding("isolation", Level.OK, said)


def _versions(connection: Connection) -> Finding:
    _, error = ask(connection, _LOWEST_ACTIVE)
    if error is not None:
        said = f"MIN_ACTIVE_ROWVERSION() cannot be called, so open transactions would be missed: {error}"
        return Finding("open transactions", Level.FAILED, said)
    return Finding("open transactions", Level.OK, "MIN_ACTIVE_ROWVERSION() may be called")


def _of_view(connection: Connection, feed: Feed) -> Iterator[Finding]:
    """Whether a view's versions may be another database's: each database counts its own."""
    view, _ = ask(connection, _IS_VIEW.bindparams(name=feed.table))
    if not view:
        return
    other, error = ask(connection, _OTHER_DATABASE.bindparams(name=feed.table))
    if other:
        said = (
            f"the view reads database {other}, whose versions this database's MIN_ACTIVE_ROWVERSION() says nothing of: "
            "rows would wait for ever, or be missed; name that database in SOURCE_URL, and read the table itself"
        )
        yield Finding("versions", Level.FAILED, said)
        return
    unseen = f" (what it reads cannot be told: {error})" if error else ""
    said = f"a view{unseen}: its versions must be this database's own, or rows are missed"
    yield Finding("versions", Level.WARNING, said)


def ask(connection: Connection, question: Any) -> tuple[Any, str | None]:
    """The answer, or else what the server said against it. Raises errors that are worth a retry."""
    try:
        return connection.execute(question).scalar(), None
    except DBAPIError as error:
        if (
            error.connection_invalidated
            or error.orig is None
            or mssql_errors.refuses(error.orig) is False
        ):
            raise
        return None, one_line(error.orig.args[-1])
