"""Whatever an operator writes, in whichever setting: one problem that says where and what to do, in
plain words.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

import config
from app.configuration import checks
from app.core.errors import ConfigError
from app.core.source_url import DRIVERS
from app.core.spelling import likely
from app.feeds.feed import Feed
from app.source.products.registry import PRODUCTS
from tests.unit.configuration.test_config import GOOD

OF_A_LIBRARY = re.compile(
    r"pydantic|input|value error|validat|valid (?!TOML)|\bdict|tuple|\bNone\b|\bstr\b|\bint\b|\bfloat\b|\bbool\b|"
    r"timedelta|datetime|\bobject\b|instance|python|\bparse|parsing|union|discriminator|\btag\b|extra|Traceback|Errno|"
    r"(?-i:True|False)|callable|mapping|SecretStr|codec|(?-i:Error)\b|attribute|items? after",
    re.IGNORECASE,
)
"""Words that no operator has to know."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment without our settings."""
    monkeypatch.chdir(folder)
    for name in config.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # read anew at each load, which takes a while
        monkeypatch.delenv(name, raising=False)
    for name in (".env", "feeds.toml"):
        (folder / name).unlink(missing_ok=True)
    return folder


def _told(place: Path, feeds: str, env: str = "") -> list[str]:
    """What `load` says is wrong; nothing where it takes it all."""
    (place / "feeds.toml").write_text(feeds, encoding="utf-8")
    (place / ".env").write_text(env, encoding="utf-8")
    try:
        checks.load()
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that a feed may have, with the tables it lies in."""
    for name, field in model.model_fields.items():
        path = (*above, field.alias or name)
        if path not in (("name",), ("secrets",)):
            yield path
        inner = [one for one in _models(field.annotation) if len(path) < 4]
        for one in inner:
            yield from _paths(one, path)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


PATHS = sorted(set(_paths(Feed)))
VALUES = (
    "true", "-1", "1.5", "nan", '"x"', "[]", "[[1]]", "{ x = 1 }", "2026-01-01T00:00:00Z", '"9999999999999d"',
    '{ type = "magic" }', '[{ column = 1, op = "~", value = {} }]', '"a\\u0000b"', '"nothing.here:at_all"',
)  # fmt: skip


def _strategy(path: tuple[str, ...]) -> str:
    """One that has the option."""
    return "timestamp" if path in {("cursor", "clock"), ("cursor", "lag")} else "identity"


def _written(path: tuple[str, ...], value: str, name: str) -> str:
    """A feed of only what it must have, and one key with that value."""
    tables = {
        ("table",): '"t"', ("key",): '"id"', ("cursor", "strategy"): f'"{_strategy(path)}"',
        ("cursor", "column"): '"id"', ("partner", "url"): '"https://partner.example/"',
    }  # fmt: skip
    kept = {
        at: text for at, text in tables.items() if at[: len(path)] != path and path[: len(at)] != at
    }
    lines = [f"{'.'.join(at)} = {text}" for at, text in (kept | {path: value}).items()]
    return "\n".join([f"[feeds.{name}]", *lines, ""])


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_wrong_value_of_a_feeds_key_is_told_in_plain_words(
    place: Path, path: tuple[str, ...]
) -> None:
    feeds = [_written(path, value, f"orders{number}") for number, value in enumerate(VALUES)]
    told = _told(place, "\n".join(feeds))
    assert told, "none of these values is right for every key"
    assert [text for text in told if OF_A_LIBRARY.search(_without_input(text))] == []
    assert all(text.startswith("feeds.toml: feeds.orders") for text in told)


def _without_input(problem: str) -> str:
    """The problem without the names and the value that the operator wrote."""
    _, _, said = problem.partition(": found ")
    return re.sub(r"'[^']*'|\"[^\"]*\"|\$\{\w+\}", "", said)


SETTING_VALUES = (
    "", "x", "-1", "1.5", "inf", "nan", "true", "5", "0", "99999999999", "9999999999999d", "redis://", "://", "a@b",
    "mssql://sa:Top@Secret99@db/shop", "sqlite", "mongodb://", "http://", "mssql://h:port/x", "foo+bar://x", "[", "ü",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(config.Settings.model_fields))
def test_a_wrong_value_of_a_setting_is_told_in_plain_words(place: Path, name: str) -> None:
    told = [
        text for value in SETTING_VALUES for text in _told(place, GOOD, f"{name.upper()}={value}\n")
    ]
    told = [text for text in told if "FEEDS_FILE" not in text]
    assert [text for text in told if OF_A_LIBRARY.search(_without_input(text))] == []
    assert all(text.startswith(".env: ") for text in told if name != "feeds_file")
    assert not [text for text in told if "Secret99" in text]


URLS = ("redis_url", "mongo_url", "source_url", "report_webhook_url")
PIECES = st.sampled_from([
    *("mssql", "sqlite", "redis", "rediss", "mongodb", "mongodb+srv", "http", "postgresql", "+", "aioodbc", "://"),
    *(":", "/", "@", "?", "#", "%", "%4", "%40", "[", "]", "::1", "sa", "pw", "db", "1433", "=", "&", " ", "w", "ü"),
])  # fmt: skip


@given(name=st.sampled_from(URLS), pieces=st.lists(PIECES, max_size=12))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_for_a_url_is_taken_or_told_and_never_raises(
    place: Path, name: str, pieces: list[str]
) -> None:
    from app.core.errors import RowrelayError
    from app.source.engine import async_url

    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), text)
        told = _told(place, GOOD)
    assert all(OF_A_LIBRARY.search(_without_input(one)) is None for one in told)
    if name == "source_url" and not told and text:
        try:  # what `doctor` does with one that was taken
            async_url(text)
        except RowrelayError as error:
            assert OF_A_LIBRARY.search(_without_input(str(error))) is None  # noqa: PT017 - either is right


SECRET = "Top@Secret99"  # noqa: S105
CUT = {
    "SOURCE_URL": f"mssql://sa:{SECRET}@db:1433/shop",
    "MONGO_URL": f"mongodb://sa:{SECRET}@db:27017/ledger",
    "REDIS_URL": f"redis://sa:{SECRET}@db:6379/0",
}


@pytest.mark.parametrize("name", CUT)
def test_a_password_with_an_at_sign_is_never_shown_and_how_to_write_it_is(
    place: Path, name: str
) -> None:
    (problem,) = _told(place, GOOD, f"{name}={CUT[name]}\n")
    assert "Secret99" not in problem
    assert "Top" not in problem
    assert "%40" in problem


def test_what_is_right_in_a_source_url_passes(place: Path) -> None:
    for url in (
        "mssql://sa:p%40ss@db:1433/shop?Encrypt=yes", "sqlite:////data/in@box/x.db", "sqlite://", "mssql://db/shop",
        "mssql://u@[::1]:1433/shop", "postgresql+asyncpg://u:p@db/shop", "mysql+aiomysql://u:p@db/shop",
        "mssql://db/shop?UID=me@tenant.example&authentication=ActiveDirectoryIntegrated",
    ):  # fmt: skip
        assert _told(place, GOOD, f"SOURCE_URL={url}\n") == []


def test_the_drivers_named_are_those_that_are_used() -> None:
    assert dict(DRIVERS) == {name: product.driver for name, product in PRODUCTS.items()}


def test_a_name_that_does_not_exist_is_told_with_the_one_that_was_likely_meant(place: Path) -> None:
    (problem,) = _told(place, GOOD.replace('key = "id"', 'key = "id"\npoll_evry = "5s"'))
    assert (
        problem
        == "feeds.toml: feeds.orders.poll_evry: found '5s'; no such field: poll_every was likely meant"
    )
    assert likely("SWEEP_EVRY", ["SWEEP_EVERY", "LEASE"]) == "SWEEP_EVERY"
    assert likely("rowrelay_lease", ["LEASE"]) == "LEASE"
    assert likely("HOSTNAME", ["LEASE", "SMTP_HOST"]) is None


@pytest.mark.parametrize(
    ("strategy", "option", "told"),
    [
        ("identity", 'lag = "30s"', "lag: found '30s'; an option of strategy timestamp, not of identity"),
        ("identity", "clock = 7", "clock: found 7; an option of strategy timestamp, not of identity"),
        ("identity", "deletes = true", "deletes: found true; an option of strategy change_tracking, not of identity"),
        ("timestamp", "max_gaps = 50", "max_gaps: found 50; an option of strategy identity, not of timestamp"),
        ("rowversion", "max_gaps = 7", "max_gaps: found 7; an option of strategy identity, not of rowversion"),
        (
            "change_tracking", 'column = "id"',
            "column: found 'id'; an option of strategy rowversion, identity or timestamp, not of change_tracking",
        ),
    ],
)  # fmt: skip
def test_an_option_of_another_cursor_strategy_is_told_with_the_strategies_that_have_it(
    place: Path, strategy: str, option: str, told: str
) -> None:
    column = (
        "" if option.startswith("column") or strategy == "change_tracking" else 'column = "id", '
    )
    cursor = f'cursor = {{ strategy = "{strategy}", {column}{option} }}'
    (problem,) = _told(place, re.sub(r"(?m)^cursor = .*$", cursor, GOOD))
    assert problem == f"feeds.toml: feeds.orders.cursor.{told}: leave it out"


def test_a_wrong_option_beside_one_of_another_strategy_is_told_too(place: Path) -> None:
    cursor = 'cursor = { strategy = "identity", column = "id", lag = "soon", max_gap = 5, max_gaps = "x" }'
    told = _told(place, re.sub(r"(?m)^cursor = .*$", cursor, GOOD))
    assert [problem.partition(": found")[0].rpartition(".")[2] for problem in sorted(told)] == [
        "lag",
        "max_gap",
        "max_gaps",
    ]


def test_fields_of_ours_are_not_written(place: Path) -> None:
    for line in ('name = "other"', 'secrets = ["hunter2"]'):
        (problem,) = _told(place, GOOD.replace('key = "id"', f'key = "id"\n{line}'))
        assert problem.endswith("found a value; no such field: remove it")


def test_a_secret_setting_keeps_its_secret() -> None:
    secret = {
        name
        for name, field in config.Settings.model_fields.items()
        if field.annotation is SecretStr
    }
    assert secret == {
        "redis_url", "mongo_url", "source_url", "mssql_password", "smtp_password", "report_webhook_url",
        "report_webhook_secret", "notify_webhook_url", "notify_webhook_secret", "console_secret",
        "console_database_url",
    }  # fmt: skip
