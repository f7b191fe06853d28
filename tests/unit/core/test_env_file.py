"""`.env` is taken as it stands; what was changed on the way is said, and what counts for nothing
too.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import config
from app.core.errors import ConfigError
from tests.unit.configuration.test_config import GOOD

TOKEN = GOOD.replace(
    '"https://partner.example/v1/orders"',
    '"https://p.example/", auth = { type = "bearer", token = "${PARTNER_TOKEN}" }',
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment without our settings."""
    monkeypatch.chdir(tmp_path)
    for name in config.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    return tmp_path


def _load(place: Path, env: str | bytes, feeds: str = GOOD) -> config.Config:
    (place / "feeds.toml").write_text(feeds, encoding="utf-8")
    (place / ".env").write_bytes(env if isinstance(env, bytes) else env.encode())
    return config.load()


def _token(loaded: config.Config) -> str:
    token = loaded.feed("orders").partner.auth.model_dump()["token"]
    return str(token.get_secret_value())


@pytest.mark.parametrize(
    "written", ["ab${cd}ef", "'ab${cd}ef'", '"ab${cd}ef"', "ab$${cd}ef", '"ab$${cd}ef"']
)
def test_braces_in_a_secret_stay_where_nobody_set_the_name(place: Path, written: str) -> None:
    loaded = _load(place, f"PARTNER_TOKEN={written}\n", TOKEN)
    assert _token(loaded) == "ab${cd}ef"
    assert loaded.warnings == ()


@pytest.mark.parametrize("written", ["'ab${cd}ef'", "ab$${cd}ef", '"ab$${cd}ef"'])
def test_braces_can_be_escaped_where_the_name_is_set(place: Path, written: str) -> None:
    loaded = _load(place, f"cd=X\nPARTNER_TOKEN={written}\n", TOKEN)
    assert _token(loaded) == "ab${cd}ef"


def test_a_value_that_was_changed_is_said_without_showing_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("cd", "s3cret")
    loaded = _load(place, "PARTNER_TOKEN=ab${cd}ef\n", TOKEN)
    assert _token(loaded) == "abs3cretef"
    (warning,) = loaded.warnings
    assert str(warning) == (
        ".env: PARTNER_TOKEN: found ${cd}, in whose place the value of cd was put; "
        "if the text itself is meant, write $${ for ${"
    )
    assert _token(_load(place, "PARTNER_TOKEN=${none:-fall back}\n", TOKEN)) == "fall back"


def test_a_misspelt_setting_is_said_with_the_name_that_was_likely_meant(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://u:hunter2@db/x")
    loaded = _load(place, "SWEEP_EVRY=5s\nRETENTION=5\nPARTNER_TOKEN=x\nFLOWER_PORT=1\n", TOKEN)
    assert [f"{one.where} {one.field}: {one.allowed}" for one in loaded.warnings] == [
        "environment MONGO_URI: MONGO_URL was likely meant",
        ".env RETENTION: remove it, or mend it (.env.example has them all)",
        ".env SWEEP_EVRY: SWEEP_EVERY was likely meant",
    ]
    assert "hunter2" not in str(loaded.warnings)


def test_what_feeds_may_refer_to_is_no_wrong_name_while_they_cannot_be_read(place: Path) -> None:
    (place / "feeds.toml").write_text("[feeds.orders", encoding="utf-8")
    (place / ".env").write_text("SWEEP_EVRY=5s\nPARTNER_TOKEN=x\n", encoding="utf-8")
    assert [one.field for one in config.load_partly().config.warnings] == ["SWEEP_EVRY"]


def test_nothing_is_said_of_a_file_that_is_as_the_example(place: Path) -> None:
    example = (Path(__file__).parents[3] / ".env.example").read_text(encoding="utf-8")
    assert (
        _load(place, example.replace("# ACCEPT", "ACCEPT").replace("# FLOWER", "FLOWER")).warnings
        == ()
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_the_mark_that_windows_editors_put_in_front_is_accepted(place: Path, encoding: str) -> None:
    (place / "secret").write_bytes("t0ken\r\n".encode(encoding))
    (place / ".env").write_bytes("LEASE=7s\r\nPARTNER_TOKEN_FILE=secret\r\n".encode(encoding))
    (place / "feeds.toml").write_bytes(TOKEN.encode(encoding))
    loaded = config.load()
    assert (loaded.settings.lease, _token(loaded)) == (timedelta(seconds=7), "t0ken")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (
            "LEASE=7s".encode("utf-16"),
            ".env: the file: found text that is not UTF-8; a readable UTF-8 file",
        ),
        (
            b"LEASE=7s\n'never closed\n",
            ".env: line 2: found something that is not NAME=value; mend it, or begin it with #",
        ),
    ],
)
def test_what_cannot_be_read_is_one_clear_problem(place: Path, env: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(place, env)
    assert said in [str(problem) for problem in caught.value.problems]


def test_a_name_without_a_value_is_said(place: Path) -> None:
    (warning,) = _load(place, "LEASE\n").warnings
    assert (
        str(warning) == ".env: LEASE: found a name without a value; write LEASE=value, or remove it"
    )


@pytest.mark.parametrize("written", ["5", "5s", "5.0", "5000ms"])
def test_a_duration_is_written_in_one_way_in_every_place(place: Path, written: str) -> None:
    from app.cli.loading import duration_option

    five = timedelta(seconds=5)
    quoted = GOOD.replace('key = "id"', f'key = "id"\npoll_every = "{written}"')
    assert _load(place, f"LEASE={written}\n", quoted).feed("orders").poll_every == five
    assert config.load().settings.lease == five == duration_option(written)
    if written.replace(".", "").isdigit():
        bare = GOOD.replace('key = "id"', f'key = "id"\npoll_every = {written}')
        assert _load(place, "", bare).feed("orders").poll_every == five


@pytest.mark.parametrize(
    "written", ["0", "-5", "soon", "5 weeks", "inf", "99999999999999d", "5s 3s", ""]
)
def test_what_is_no_duration_is_none_in_any_place(place: Path, written: str) -> None:
    import typer

    from app.cli.loading import duration_option

    with pytest.raises(ConfigError, match="LEASE: found"):
        _load(place, f"LEASE={written}\n")
    with pytest.raises(ConfigError, match="poll_every: found"):
        _load(place, "", GOOD.replace('key = "id"', f'key = "id"\npoll_every = "{written}"'))
    with pytest.raises(typer.BadParameter):
        duration_option(written)
