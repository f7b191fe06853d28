"""Secrets out of files, as Docker and Kubernetes hand them out: for settings and for feeds."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from app.configuration import checks
from app.core.errors import ConfigError

FROM_FILE = "mongodb://from-the-file/ledger"
FORMS = {"REDIS_URL": "rediss://from-the-file:6379/1", "SOURCE_URL": "mssql://from-the-file/shop"}
"""Settings that take another form: a URL is looked at when it is read."""

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.example/", auth = { type = "bearer", token = "${PARTNER_TOKEN}" } }
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a feed and a secret in a file, and an environment without our
    settings.
    """
    monkeypatch.chdir(tmp_path)
    for name in [*config.Settings.model_fields, "PARTNER_TOKEN"]:
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    (tmp_path / "secret").write_text(f"{FROM_FILE}\n", encoding="utf-8")
    return tmp_path


def _problems() -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        checks.load()
    return {problem.field: str(problem) for problem in caught.value.problems}


@pytest.mark.parametrize("setting", ["REDIS_URL", "MONGO_URL", "SOURCE_URL", "MSSQL_PASSWORD"])
def test_a_secret_setting_comes_from_the_file_that_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    value = FORMS.get(setting, FROM_FILE)
    (place / "secret").write_text(f"{value}\n", encoding="utf-8")
    monkeypatch.setenv("PARTNER_TOKEN", "t")
    monkeypatch.setenv(f"{setting}_FILE", str(place / "secret"))
    found = getattr(checks.load().settings, setting.lower())
    assert found.get_secret_value() == value


def test_a_feeds_secret_comes_from_the_file_that_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_TOKEN_FILE", str(place / "secret"))
    auth = checks.load().feed("orders").partner.auth
    assert auth.model_dump()["token"].get_secret_value() == FROM_FILE


def test_the_file_may_be_named_in_dot_env(place: Path) -> None:
    (place / ".env").write_text(
        "PARTNER_TOKEN_FILE=secret\nMONGO_URL_FILE=secret\n", encoding="utf-8"
    )
    assert checks.load().settings.mongo_url.get_secret_value() == FROM_FILE


def test_a_value_and_a_file_together_are_a_problem_since_one_would_be_ignored(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REDIS_URL", "PARTNER_TOKEN"):
        monkeypatch.setenv(name, "s3cret")
        monkeypatch.setenv(f"{name}_FILE", str(place / "secret"))
    problems = _problems()
    assert set(problems) == {"REDIS_URL_FILE", "PARTNER_TOKEN_FILE"}
    assert problems["REDIS_URL_FILE"] == (
        "environment: REDIS_URL_FILE: found REDIS_URL too; set either REDIS_URL or REDIS_URL_FILE"
    )
    assert not [text for text in problems.values() if "s3cret" in text or "from-the-file" in text]


def test_a_file_that_cannot_be_read_is_told_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_TOKEN_FILE", str(place / "none"))
    assert "No such file or directory; a readable UTF-8 file" in _problems()["PARTNER_TOKEN_FILE"]


def test_a_problem_with_a_file_says_where_its_name_was_given(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".env").write_text("PARTNER_TOKEN_FILE=none\nREDIS_URL_FILE=none\n", encoding="utf-8")
    assert {text.partition(":")[0] for text in _problems().values()} == {".env"}
    monkeypatch.setenv("PARTNER_TOKEN_FILE", "none")
    where = {name: text.partition(":")[0] for name, text in _problems().items()}
    assert where == {"REDIS_URL_FILE": ".env", "PARTNER_TOKEN_FILE": "environment"}


@pytest.mark.usefixtures("place")
def test_a_secret_that_is_nowhere_is_told_with_both_ways_to_give_it() -> None:
    assert (
        "set PARTNER_TOKEN or PARTNER_TOKEN_FILE in the environment or .env"
        in _problems()["feeds.orders"]
    )


def test_an_empty_file_is_not_taken_for_a_secret(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_TOKEN", "t")
    (place / "secret").write_text("\n", encoding="utf-8")
    monkeypatch.setenv("REDIS_URL_FILE", str(place / "secret"))
    assert "secret': empty" in _problems()["REDIS_URL_FILE"]
