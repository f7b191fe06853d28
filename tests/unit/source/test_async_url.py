"""A plain database URL gets its async driver; a wrong one is refused without being shown."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.engine import make_url

from app.core.errors import ConfigError
from app.source.engine import async_url, open_engine, source_name


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("mssql://sa:p%40ss@db:1433/shop", "mssql+aioodbc://sa:p%40ss@db:1433/shop"),
        ("mssql://db/shop?driver=ODBC+Driver+18", "mssql+aioodbc://db/shop?driver=ODBC+Driver+18"),
        ("sqlite:///data/shop.db", "sqlite+aiosqlite:///data/shop.db"),
        ("postgresql://u@db/shop", "postgresql+asyncpg://u@db/shop"),
        ("postgres://u@db/shop", "postgresql+asyncpg://u@db/shop"),
        ("mssql+aioodbc://db/shop", "mssql+aioodbc://db/shop"),
        ("mysql+aiomysql://db/shop", "mysql+aiomysql://db/shop"),
    ],
)
def test_a_plain_url_gets_the_async_driver_and_keeps_the_rest(plain: str, expected: str) -> None:
    assert async_url(plain) == expected


@pytest.mark.parametrize(
    "url",
    [
        "mssql+pyodbc://sa:hunter2@db/shop",
        "sqlite+pysqlite:///shop.db",
        "mssql+nosuch://sa:hunter2@db/shop",
        "oracle://sa:hunter2@db/shop",
        "sa:hunter2@db/shop",
        "sa:hunter2://db",
        "mssql://sa:hunter2@db:port/shop",
        "mssql://sa:p@ss:hunter2/shop",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async_url(url)
    message = str(caught.value)
    assert "SOURCE_URL" in message
    assert "hunter2" not in message
    assert "hunter2" not in str(caught.value.__cause__)


def test_the_refusal_says_what_is_allowed() -> None:
    with pytest.raises(
        ConfigError, match=r"mssql:// \(mssql\+aioodbc://\), sqlite:// \(sqlite\+aiosqlite://\)"
    ):
        async_url("mssql+pyodbc://db/shop")


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"postgresql\+asyncpg, which cannot be loaded"):
        open_engine("postgresql://u:hunter2@db/shop", timedelta(seconds=1))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("mssql+aioodbc://sa:hunter2@db:1433/shop?PWD=hunter2", "mssql db:1433/shop"),
        ("mssql+aioodbc://sa:hunter2@db/shop", "mssql db/shop"),
        ("sqlite+aiosqlite:///file:///data/shop.db?mode=rw&uri=true", "sqlite /data/shop.db"),
    ],
)
def test_a_source_is_named_by_product_host_and_database_only(url: str, name: str) -> None:
    assert source_name(make_url(url)) == name
