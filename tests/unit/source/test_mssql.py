"""SQL Server: the URL is completed, errors are judged by number, and types are read without loss."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import column, exc
from sqlalchemy.dialects import mssql
from sqlalchemy.dialects.mssql.aioodbc import MSDialectAsync_aioodbc
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.types import INTEGER, NVARCHAR, TypeEngine

from app.core.errors import ConfigError, SourceRefused, SourceUnavailable, ValueRefused
from app.source.errors import translated, verdict
from app.source.payload import payload_json
from app.source.products.mssql import product
from app.source.products.mssql.errors import BY_VALUE, PERMANENT, RETRYABLE, numbers
from app.source.products.mssql.odbc import OdbcDriver
from app.source.products.mssql.product import MSSQL
from app.source.products.mssql.types import Hierarchyid, LongText, Spatial

HEAD = "[Microsoft][ODBC Driver 18 for SQL Server]"


class Error(Exception):
    """As pyodbc raises them: (SQLSTATE, text)."""


Error.__module__ = "pyodbc"


def _dialect() -> Dialect:
    """SQLAlchemy's, as for any server since 2012."""
    made: Callable[..., Dialect] = MSDialectAsync_aioodbc
    return made(deprecate_large_types=True)


def _type(name: str, *arguments: object) -> TypeEngine[Any]:
    """A type of SQL Server. SQLAlchemy's constructors have no annotations."""
    made: TypeEngine[Any] = getattr(mssql, name)(*arguments)
    return made


def _error(state: str, *said: tuple[str, int]) -> Error:
    """pyodbc's text for one or more messages of the driver."""
    (text, number), *more = said
    first = f"[{state}] {HEAD}{text} ({number}) (SQLExecDirectW)"
    return Error(
        state, "; ".join([first, *(f"[{state}] {HEAD}{text} ({number})" for text, number in more)])
    )


def _wrapped(original: Exception, *, invalidated: bool = False) -> exc.ProgrammingError:
    return exc.ProgrammingError("SELECT secret", {}, original, connection_invalidated=invalidated)


@pytest.mark.parametrize("number", sorted(RETRYABLE))
def test_each_transient_number_is_worth_a_retry(number: int) -> None:
    error = _error("42000", ("[SQL Server]Process ID (52) was unlucky.", number))
    assert verdict(_wrapped(error), MSSQL) is SourceUnavailable
    assert MSSQL.advice(error) == RETRYABLE[number]


@pytest.mark.parametrize("number", sorted(PERMANENT))
def test_each_permanent_number_is_refused_with_advice(number: int) -> None:
    error = _error("42000", ("[SQL Server]It is so (1205) today.", number))
    assert verdict(_wrapped(error, invalidated=True), MSSQL) is SourceRefused
    assert MSSQL.advice(error) == PERMANENT[number]


@pytest.mark.parametrize("number", sorted(BY_VALUE))
def test_each_number_that_a_value_causes_is_told_apart(number: int) -> None:
    error = _error("42000", ("[SQL Server]It cannot be.", number))
    assert verdict(_wrapped(error), MSSQL) is ValueRefused
    assert MSSQL.advice(error) == BY_VALUE[number]
    with_a_deadlock = _error(
        "42000", ("[SQL Server]It cannot be.", number), ("and a deadlock", 1205)
    )
    assert verdict(_wrapped(with_a_deadlock), MSSQL) is SourceUnavailable


def test_no_number_stands_in_two_tables() -> None:
    assert not (
        RETRYABLE.keys() & PERMANENT.keys()
        | BY_VALUE.keys() & (RETRYABLE.keys() | PERMANENT.keys())
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_error("22012", ("[SQL Server]A number nobody has listed.", 99999)), ValueRefused),
        (_error("22003", ("Numeric value out of range", 0)), ValueRefused),
        (
            _error(
                "FA001", ("Cannot use Authentication option with Integrated Security option.", 0)
            ),
            SourceRefused,
        ),
        (
            _error("FA004", ("Failed to authenticate the user '' in Active Directory", 0)),
            SourceUnavailable,
        ),
        (_error("08003", ("the connection was closed", 0)), SourceUnavailable),
        (_error("HYT00", ("Login timeout expired", 0)), SourceUnavailable),
        (_error("HYT00", ("Query timeout expired", 0)), SourceUnavailable),
        (_error("08S01", ("Communication link failure", 0)), SourceUnavailable),
        (
            _error(
                "08001", ("TCP Provider: Error code 0x2749", 10061), ("Login timeout expired", 0)
            ),
            SourceUnavailable,
        ),
        (_error("42000", ("[SQL Server]Something new.", 99999)), SourceUnavailable),
        (
            _error("42000", ("Cannot open database", 4060), ("Login failed", 18456)),
            SourceUnavailable,
        ),
        (_error("28000", ("[SQL Server]Login failed for user 'sa'.", 18456)), SourceRefused),
        (_error("42S02", ("[SQL Server]Invalid object name", 208)), SourceRefused),
        (
            _error(
                "08001",
                ("SSL Provider: [error:0A000086:certificate verify failed:self-signed]", -1),
            ),
            SourceRefused,
        ),
        (
            Error(
                "01000", "[01000] [unixODBC][Driver Manager]Can't open lib 'x' : file not found (0)"
            ),
            SourceRefused,
        ),
        (
            Error("HY106", "ODBC SQL type -151 is not yet supported.  column-index=0  type=-151"),
            SourceRefused,
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_is_judged_by_number_then_state(error: Error, expected: type[Exception]) -> None:
    assert verdict(_wrapped(error), MSSQL) is expected


def test_numbers_are_read_from_every_message_and_not_from_its_words() -> None:
    error = _error("42000", ("Process ID (52) \n and (1205) words", 229), ("and more", 262))
    assert list(numbers(error)) == [229, 262]
    assert list(numbers(Error("HY000"))) == []


def test_the_message_says_what_to_do_in_one_line_without_the_password() -> None:
    error = _error("28000", ("[SQL Server]Login failed for\n user 'sa' with hunter2.", 18456))
    with (
        pytest.raises(SourceRefused) as caught,
        translated("mssql db/shop: version", MSSQL, "hunter2"),
    ):
        raise _wrapped(error)
    message = str(caught.value)
    assert message.startswith("mssql db/shop: version: check user and password in SOURCE_URL")
    assert "Login failed for user 'sa' with ***" in message
    assert "\n" not in message


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[OdbcDriver]:
    """The driver that is found; the test may put another there."""
    found = [OdbcDriver("ODBC Driver 18 for SQL Server", "installed")]
    monkeypatch.setattr(product, "find_driver", lambda _named: found[-1])
    return found


def _query(url: str) -> dict[str, Any]:
    return dict(MSSQL.prepare_url(make_url(url)).query)


@pytest.mark.usefixtures("driver")
def test_encryption_is_on_and_certificates_are_checked_unless_the_url_says_otherwise() -> None:
    plain = _query("mssql+aioodbc://sa:x@db/shop")
    assert plain == {
        "driver": "ODBC Driver 18 for SQL Server",
        "Encrypt": "yes",
        "TrustServerCertificate": "no",
        "APP": "rowrelay",
    }
    given = _query(
        "mssql+aioodbc://sa:x@db/shop?encrypt=strict&ApplicationIntent=ReadOnly&MultiSubnetFailover=Yes"
    )
    assert (given["encrypt"], given["ApplicationIntent"], given["MultiSubnetFailover"]) == (
        "strict",
        "ReadOnly",
        "Yes",
    )
    assert "Encrypt" not in given


def test_freetds_has_the_port_as_a_keyword_of_its_own(driver: list[OdbcDriver]) -> None:
    driver.append(OdbcDriver("FreeTDS", "installed"))
    url = MSSQL.prepare_url(make_url("mssql+aioodbc://sa:x@db:14330/shop?Encrypt=no"))
    _, arguments = _dialect().create_connect_args(url)
    assert "Server=db;" in arguments["dsn"]
    assert "port=14330" in arguments["dsn"]
    assert url.query["Encryption"] == "off"
    assert _query("mssql+aioodbc://sa:x@db/shop")["Encryption"] == "require"


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("query", "said", "unsaid"),
    [
        ("Authentication=ActiveDirectoryMsi", ["Authentication=ActiveDirectoryMsi"], ["UID"]),
        (
            "AUTHENTICATION=ActiveDirectoryIntegrated",
            ["Authentication=ActiveDirectoryIntegrated"],
            ["UID"],
        ),
        (
            "authentication=ActiveDirectoryMsi&uid=8f1c",
            ["UID=8f1c", "authentication=ActiveDirectoryMsi"],
            ["PWD"],
        ),
        ("Uid=sa&Pwd=p%3Bw", ["UID=sa", "PWD={p;w}"], []),
    ],
)
def test_a_login_by_keywords_in_any_letters_asks_for_no_kerberos_ticket(
    query: str, said: list[str], unsaid: list[str]
) -> None:
    url = MSSQL.prepare_url(make_url(f"mssql+aioodbc://db:1433/shop?{query}"))
    written = _dialect().create_connect_args(url)[1]["dsn"]
    assert all(part in written for part in said)
    assert not any(part in written for part in [*unsaid, "Trusted_Connection"])


@pytest.mark.usefixtures("driver")
def test_without_a_login_the_kerberos_ticket_is_used_whatever_the_letters() -> None:
    for query in ("", "?trusted_connection=yes", "?Trusted_Connection=Yes"):
        url = MSSQL.prepare_url(make_url(f"mssql+aioodbc://db:1433/shop{query}"))
        written = _dialect().create_connect_args(url)[1]["dsn"]
        assert written.casefold().count("trusted_connection=yes") == 1


@pytest.mark.usefixtures("driver")
def test_the_path_of_a_driver_reaches_the_connection_string(driver: list[OdbcDriver]) -> None:
    driver.append(OdbcDriver("/packages/libmsodbcsql-18.6.so.2.1", "package"))
    url = MSSQL.prepare_url(make_url("mssql+aioodbc://sa:p%3Bw@db:1433/shop"))
    _, arguments = _dialect().create_connect_args(url)
    assert arguments["dsn"].startswith(
        "DRIVER={/packages/libmsodbcsql-18.6.so.2.1};Server=db,1433;Database=shop;"
    )
    assert "PWD={p;w}" in arguments["dsn"]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("url", ["mssql+aioodbc://sa:hunter2@db", "mssql+aioodbc:///shop"])
def test_a_url_without_host_or_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="without host or database") as caught:
        MSSQL.prepare_url(make_url(url))
    assert "hunter2" not in str(caught.value)


def test_a_url_that_gives_the_whole_connection_string_is_left_alone() -> None:
    url = make_url("mssql+aioodbc:///?odbc_connect=DSN%3Dshop")
    assert MSSQL.prepare_url(url) == url
    assert MSSQL.prepare_url(make_url("mssql+aioodbc:///?ODBC_Connect=DSN%3Dshop")) == url


@pytest.mark.parametrize(
    ("column_type", "expected"),
    [
        (INTEGER(), "c"),
        (_type("DATETIME"), "c"),
        (NVARCHAR(20), "c"),
        (_type("TIMESTAMP"), "c"),
        (_type("DATETIME2"), "convert(varchar(40), c, 121)"),
        (_type("TIME"), "convert(varchar(40), c, 121)"),
        (_type("DATETIMEOFFSET"), "convert(varchar(40), c, 121)"),
        (NVARCHAR(), "substring(c, 1, 1001)"),
        (_type("VARBINARY", "max"), "substring(c, 1, 1001)"),
        (_type("XML"), "substring(CAST(c AS NVARCHAR(max)), 1, 1001)"),
        (_type("NTEXT"), "substring(CAST(c AS NVARCHAR(max)), 1, 1001)"),
        (_type("TEXT"), "substring(CAST(c AS VARCHAR(max)), 1, 1001)"),
        (_type("IMAGE"), "substring(CAST(c AS VARBINARY(max)), 1, 1001)"),
        (LongText(), "substring(CAST(c AS NVARCHAR(max)), 1, 1001)"),
        (Spatial(), "substring(CAST(c AS VARBINARY(max)), 1, 1001)"),
        (Hierarchyid(), "CAST(c AS NVARCHAR(4000))"),
    ],
    ids=repr,
)
def test_each_type_is_read_so_that_nothing_is_lost(
    column_type: TypeEngine[Any], expected: str
) -> None:
    dialect = _dialect()
    assert str(MSSQL.selected(column("c"), column_type, 1000).compile(dialect=dialect)) == expected


def test_a_variant_is_read_as_text_by_its_base_type() -> None:
    compiled = str(
        MSSQL.selected(column("c"), _type("SQL_VARIANT"), 1000).compile(dialect=_dialect())
    )
    assert "sql_variant_property(c, " in compiled
    for part in (
        "CAST(c AS VARBINARY(8000)), 1)",
        "CAST(c AS FLOAT(53)), 3)",
        "CAST(c AS MONEY), 2)",
        "c, 121)",
    ):
        assert part in compiled


@pytest.mark.parametrize(
    ("column_type", "value", "expected"),
    [
        (_type("DATETIME2"), "2026-01-31 10:20:30.1234567", '"2026-01-31T10:20:30.1234567"'),
        (
            _type("DATETIMEOFFSET"),
            "2026-01-31 10:20:30.1234567 +05:30",
            '"2026-01-31T10:20:30.1234567+05:30"',
        ),
        (_type("TIME"), "10:20:30.1234567", '"10:20:30.1234567"'),
        (_type("TIMESTAMP"), bytes.fromhex("00000000000007D1"), '"0x00000000000007D1"'),
        (_type("MONEY"), Decimal("922337203685477.5807"), '"922337203685477.5807"'),
        (_type("DATETIME2"), None, "null"),
        (_type("DATETIMEOFFSET"), None, "null"),
        (_type("TIMESTAMP"), None, "null"),
    ],
)
def test_what_the_driver_returns_becomes_json(
    column_type: TypeEngine[Any], value: object, expected: str
) -> None:
    decode = MSSQL.decoder(column_type)
    assert payload_json({"c": decode(value) if decode else value}).decode() == f'{{"c":{expected}}}'


def test_wide_text_lets_lone_surrogates_through_to_the_row() -> None:
    assert product._wide_text("größer 😀".encode("utf-16-le")) == "größer 😀"
    assert product._wide_text(b"a\x00\x3d\xd8") == "a\ud83d"
    assert product._wide_text(None) is None
