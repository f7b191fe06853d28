"""SQL Server as a source: encrypted by default, read without blocking writers, every statement
bounded.

Reads run at READ COMMITTED, one statement a transaction (autocommit): where the database has
READ_COMMITTED_SNAPSHOT on they take no row locks at all; elsewhere a shared lock is held while its
row is read, never longer, and a read gives up after `LOCK_TIMEOUT_MS` of waiting for a writer.
NOLOCK is never used: it reads rows that are rolled back later, and can miss or repeat committed
ones when pages split (Microsoft Learn: "Table hints", "SET TRANSACTION ISOLATION LEVEL").
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from sqlalchemy.engine import URL

from app.core.errors import ConfigError, Problem
from app.source.products.mssql import errors as mssql_errors
from app.source.products.mssql import findings as mssql_findings
from app.source.products.mssql import types as mssql_types
from app.source.products.mssql.columns import all_columns
from app.source.products.mssql.cursors import CURSORS
from app.source.products.mssql.odbc import OdbcDriver, find_driver
from app.source.products.mssql.position_codecs import mssql_codec
from app.source.products.product import Product, Timeouts

APPLICATION = "rowrelay"
LOCK_TIMEOUT_MS = 5000
_SESSION = (
    # The login's language would decide how text is read as a date, in `where`, in keys and in the
    # source's own views.
    "SET LANGUAGE us_english",
    "SET DATEFORMAT ymd",  # after the language, which brings its own
    f"SET LOCK_TIMEOUT {LOCK_TIMEOUT_MS}",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET DEADLOCK_PRIORITY LOW",  # in a deadlock the source's own application wins
)
_GIVEN_WHOLE = ("odbc_connect", "dsn")
_READ_BY_SQLALCHEMY = ("authentication", "driver", "odbc_autotranslate", "port", *_GIVEN_WHOLE)
"""Keywords that SQLAlchemy takes out of the query, and knows in small letters only. The driver
takes any letters.
"""


def _prepare_url(url: URL) -> URL:
    """Name the driver, and add what is missing: encryption, the application's name, and FreeTDS's
    own keywords.
    """
    url = _as_sqlalchemy_reads_it(url)
    if any(name in url.query for name in _GIVEN_WHOLE):
        return url
    if not url.host or not url.database:
        raise ConfigError([
            Problem(
                "environment",
                "SOURCE_URL",
                "an SQL Server URL without host or database",
                "mssql://user:password@host:1433/database",
            )
        ])  # fmt: skip
    named = url.query.get("driver")
    driver = find_driver(named if isinstance(named, str) else None)
    given = {name.casefold() for name in url.query}
    defaults = _freetds_options(url) if driver.freetds else _options(driver)
    missing = {name: value for name, value in defaults.items() if name.casefold() not in given}
    return url.update_query_dict({**missing, "driver": driver.name})


def _as_sqlalchemy_reads_it(url: URL) -> URL:
    """The same with keywords as SQLAlchemy looks for them. Else it takes a URL without a user for
    one that wants a Kerberos ticket, and adds a `Trusted_Connection` that the driver refuses beside
    `Authentication`, `UID` or itself.
    """
    query: dict[str, Any] = {}
    user, password = url.username, url.password
    for name, value in url.query.items():
        small = name.casefold()
        if small == "uid" and isinstance(value, str):
            user = value
        elif small == "pwd" and isinstance(value, str):
            password = value
        elif (
            small != "trusted_connection"
            or url.username
            or "authentication" in map(str.casefold, url.query)
        ):
            query[small if small in _READ_BY_SQLALCHEMY else name] = value
    return url.set(username=user, password=password, query=query)


def _options(driver: OdbcDriver) -> Mapping[str, str]:
    """Microsoft Learn: "DSN and connection string keywords and attributes". Version 17 did not
    encrypt by itself.
    """
    encryption = {"Encrypt": "yes", "TrustServerCertificate": "no"} if driver.microsoft else {}
    return {"APP": APPLICATION, **encryption}


def _freetds_options(url: URL) -> Mapping[str, str]:
    """FreeTDS user guide: "Connection attributes". It takes no port behind the host's name."""
    encrypt = str(url.query.get("Encrypt", "yes")).casefold() not in ("no", "false", "optional")
    return {
        "port": str(url.port or 1433),  # in small letters: SQLAlchemy then leaves it out of Server=
        "TDS_Version": "7.4",
        "ClientCharset": "UTF-8",
        "Encryption": "require" if encrypt else "off",
        "APP": APPLICATION,
    }


def _connect_args(timeouts: Timeouts) -> Mapping[str, object]:
    """Whole seconds, 1 at least: 0 would mean no bound."""
    from app.source.products.mssql.odbc_connection import connect  # noqa: PLC0415 - pyodbc needs a system library

    return {
        "timeout": max(1, ceil(timeouts.connect)),
        "query_timeout_seconds": max(1, ceil(timeouts.statement)),
        "async_creator_fn": connect,
    }


def _on_connect(connection: Any) -> None:
    """Read text as UTF-16, whatever the process's locale; then make the session's own settings.

    Lone surrogates, which SQL Server may hold, pass: they spoil their own row, where pyodbc would
    fail the whole page.
    """
    import pyodbc  # noqa: PLC0415 - needs a system library

    raw = connection.driver_connection.raw
    raw.setdecoding(pyodbc.SQL_CHAR, encoding="utf-16le", ctype=pyodbc.SQL_WCHAR)
    for wide in (pyodbc.SQL_WCHAR, pyodbc.SQL_WVARCHAR, pyodbc.SQL_WLONGVARCHAR):
        raw.add_output_converter(wide, _wide_text)
    cursor = connection.cursor()
    cursor.execute("; ".join(_SESSION))
    cursor.close()


def _wide_text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-16-le", "surrogatepass")


MSSQL = Product(
    name="mssql",
    driver="aioodbc",
    connect_args=_connect_args,
    prepare_url=_prepare_url,
    engine_options={"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True},
    type_names=mssql_types.TYPE_NAMES,
    on_connect=_on_connect,
    refuses=mssql_errors.refuses,
    by_value=mssql_errors.by_value,
    advice=mssql_errors.advice,
    describe=mssql_findings.describe,
    columns=all_columns,
    unseen=", or is a synonym, or the login may not see it",
    read_only=mssql_findings.read_only,
    parameter_mark="@",
    examine=mssql_findings.examine,
    selected=mssql_types.selected,
    size=mssql_types.size,
    decoder=mssql_types.decoder,
    codec=mssql_codec,
    cursors=CURSORS,
)
