"""Settings and feeds: typed, and wrong ones reported all at once, by name, with what was found and
what is allowed.
"""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

import config
from app.configuration import checks
from app.core.clock import LEASE_LIMIT
from app.core.errors import ConfigError, UnknownFeed
from app.core.wrong_values import DURATION
from app.partner.request import prepare

ROOT = Path(__file__).resolve().parents[3]

GOOD = """
[feeds.orders]
table = "dbo.orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.example/v1/orders" }
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without our settings."""
    monkeypatch.chdir(tmp_path)
    for name in [*config.Settings.model_fields, "PARTNER_TOKEN"]:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def _problems(feeds: str, place: Path) -> dict[str, str]:
    (place / "feeds.toml").write_text(feeds, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        checks.load()
    return {problem.field: str(problem) for problem in caught.value.problems}


def test_a_feed_needs_four_fields_and_the_rest_has_defaults(place: Path) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    feed = checks.load().feed("orders")
    assert (feed.table, feed.key) == ("dbo.orders", ("id",))
    assert feed.poll_every == timedelta(seconds=5)
    assert feed.poll_soonest == timedelta(milliseconds=100)
    assert (feed.page_size, feed.batch_size, feed.max_backlog) == (1000, 250, 100_000)
    assert (feed.retry.max_attempts, feed.retry.max_age) == (None, timedelta(days=3))


def test_the_example_files_are_the_defaults(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_TOKEN", "t")
    (place / ".env").write_text(
        (ROOT / ".env.example").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (place / "feeds.toml").write_text(
        (ROOT / "feeds.example.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    loaded = checks.load()
    assert loaded.settings == config.Settings(_env_file=None)
    example = loaded.feed("orders")
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    plain = checks.load().feed("orders")
    same_partner = {"partner": plain.partner.model_copy(update={"auth": example.partner.auth})}
    assert example == plain.model_copy(update=same_partner)


def test_the_example_lists_every_setting() -> None:
    listed = set(
        re.findall(
            r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert listed == {name.upper() for name in config.Settings.model_fields}


def test_the_environment_wins_over_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    (place / ".env").write_text("LEASE=10s\nSWEEP_EVERY=2s\n", encoding="utf-8")
    monkeypatch.setenv("LEASE", "20s")
    settings = checks.load().settings
    assert (settings.lease, settings.sweep_every) == (timedelta(seconds=20), timedelta(seconds=2))


def test_an_sql_server_may_be_given_in_parts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    parts = {
        "HOST": "db.example",
        "PORT": "14330",
        "DATABASE": "my shop",
        "USER": "reader",
        "PASSWORD": "p@ss:w/rd",
    }
    for name, value in parts.items():
        monkeypatch.setenv(f"MSSQL_{name}", value)
    settings = checks.load().settings
    expected = "mssql://reader:p%40ss%3Aw%2Frd@db.example:14330/my%20shop"
    assert settings.source_url.get_secret_value() == expected
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NOTIFY_MAIL_TO": "ops@example.org"}, "set SMTP_HOST and REPORT_MAIL_FROM too"),
        ({"NOTIFY_MAIL_TO": "ops@example.org", "SMTP_HOST": "mail"}, "set REPORT_MAIL_FROM too"),
        (
            {"REPORT_MAIL_FROM": "us@example.org", "SMTP_HOST": "mail"},
            "set REPORT_MAIL_TO or NOTIFY_MAIL_TO too",
        ),
    ],
)
def test_mail_that_is_half_set_up_is_a_problem_whoever_is_to_get_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert expected in _problems(GOOD, place)["SMTP_HOST"]


def test_somebody_may_be_told_of_events_who_gets_no_reports(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    assert not checks.load().settings.notifies
    for name, value in {
        "NOTIFY_MAIL_TO": "a@b",
        "SMTP_HOST": "mail",
        "REPORT_MAIL_FROM": "us@b",
    }.items():
        monkeypatch.setenv(name, value)
    assert checks.load().settings.notifies


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFY_WEBHOOK_URL", "hooks.example/x?token=s3cret"),
        ("NOTIFY_WEBHOOK_SECRET", "s3cret"),
        ("NOTIFY_WEBHOOK_FORMAT", "discord"),
        ("NOTIFY_DEAD", "-1"),
        ("NOTIFY_OLDEST", "soon"),
        ("NOTIFY_REMIND", "0s"),
    ],
)
def test_a_setting_of_notifications_that_cannot_be_used_is_a_problem(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert "s3cret" not in _problems(GOOD, place)[name]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"SOURCE_URL": "mssql://x:hunter2@db/shop", "MSSQL_HOST": "db"},
            "either SOURCE_URL or MSSQL_HOST",
        ),
        ({"MSSQL_HOST": "db"}, "set MSSQL_DATABASE too"),
        ({"MSSQL_USER": "reader"}, "set MSSQL_HOST and MSSQL_DATABASE too"),
    ],
)
def test_an_sql_server_half_given_or_given_twice_is_a_problem(
    place: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    problem = _problems(GOOD, place)["SOURCE_URL"]
    assert expected in problem
    assert "hunter2" not in problem


def test_a_time_zone_is_one_that_exists(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    assert checks.load().settings.zone.key == "UTC"
    monkeypatch.setenv("TIMEZONE", "Europe/Berlin")
    assert checks.load().settings.zone.key == "Europe/Berlin"
    for wrong in ("Europe/Nowhere", "Europe", "../etc/passwd", "CET+1 ", ""):
        monkeypatch.setenv("TIMEZONE", wrong)
        assert 'such as "UTC" or "Europe/Berlin"' in _problems(GOOD, place)["TIMEZONE"]


def test_a_lease_is_at_most_as_long_as_is_taken_for_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("LEASE", "10m")
    assert checks.load().settings.lease == LEASE_LIMIT
    monkeypatch.setenv("LEASE", "11m")
    assert "LEASE: found '11m'; at most 10m" in _problems(GOOD, place)["LEASE"]


def test_every_problem_is_told_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE", "soon")
    monkeypatch.setenv("SWEEP_LIMIT", "0")
    wrong = GOOD.replace(
        'key = "id"', 'key = "id"\npage_size = 0\npoll_evry = "5s"'
    ) + GOOD.replace("[feeds.orders]", "[feeds.bills]").replace(
        'strategy = "identity"', 'strategy = "magic"'
    ).replace('partner = { url = "https://partner.example', 'partner = { url = "ftp://x')
    problems = _problems(wrong, place)
    assert set(problems) == {
        "LEASE", "SWEEP_LIMIT", "feeds.orders.page_size", "feeds.orders.poll_evry", "feeds.bills.cursor.strategy",
        "feeds.bills.partner.url",
    }  # fmt: skip
    assert problems["LEASE"] == (f"environment: LEASE: found 'soon'; {DURATION}")
    assert (
        "feeds.toml: feeds.orders.page_size: found 0; 1 or more"
        in problems["feeds.orders.page_size"]
    )
    assert "'magic'" in problems["feeds.bills.cursor.strategy"]
    assert (
        "'rowversion', 'identity', 'timestamp' or 'change_tracking'"
        in problems["feeds.bills.cursor.strategy"]
    )


def test_a_secret_comes_from_the_environment_and_is_never_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = 'url = "https://user:hunter2@partner.example/", auth = { type = "bearer", token = "${PARTNER_TOKEN}" }'
    feeds = GOOD.replace('url = "https://partner.example/v1/orders"', auth)
    assert "set PARTNER_TOKEN" in _problems(feeds, place)["feeds.orders"]
    monkeypatch.setenv("PARTNER_TOKEN", "s3cret")
    loaded = checks.load()
    assert loaded.feed("orders").partner.auth.model_dump()["token"].get_secret_value() == "s3cret"
    assert "s3cret" not in repr(loaded)
    assert "hunter2" not in repr(loaded)


def test_a_wrong_secret_is_reported_without_its_value(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_TOKEN", "s3cret\nline")
    partner = (
        'url = "https://partner.example/", auth = { type = "bearer", token = "${PARTNER_TOKEN}" }'
    )
    told = " ".join(
        _problems(
            GOOD.replace('url = "https://partner.example/v1/orders"', partner), place
        ).values()
    )
    assert "feeds.orders.partner.auth" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("written", "found"), [("7", "7"), ("true", "true"), ('["id", 7]', "7"), ("[]", "a list")]
)
def test_a_wrong_key_is_shown_as_it_names_columns_and_no_secret(
    place: Path, written: str, found: str
) -> None:
    (problem,) = _problems(GOOD.replace('key = "id"', f"key = {written}"), place).values()
    assert f": found {found}; " in problem


@pytest.mark.parametrize(
    ("feeds", "field"),
    [
        ("", "feeds"),
        ("[other]\nx = 1", "feeds"),
        ("[feeds]", "feeds"),
        ("[feeds", "TOML"),
        ('[feeds]\norders = "x"', "feeds.orders"),
    ],
)
def test_a_file_without_feeds_is_one_clear_problem(place: Path, feeds: str, field: str) -> None:
    assert list(_problems(feeds, place)) == [field]


@pytest.mark.usefixtures("place")
def test_a_missing_file_is_one_clear_problem() -> None:
    with pytest.raises(
        ConfigError, match=r"feeds\.toml: FEEDS_FILE: found no such file; write one"
    ):
        checks.load()


def test_an_unknown_feed_is_named_with_those_that_exist(place: Path) -> None:
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(UnknownFeed, match="'bills': not configured; known feeds: orders"):
        checks.load().feed("bills")


URL_SECRETS = {
    "HOOK": "T0123/hook-s3cret",
    "SIG": "s1g%2Fs3cret",
    "PASSWORD": "p&ss-s3cret",
    "WHOLE": "https://us:passw0rd-s3cret@partner.example:8443/hooks/T0999/0ther-s3cret?code=c0de-s3cret&page=1",
    "LOGIN": "https://login.example/t0ken/login-s3cret?page=1",
    "BEHIND": "partner.example/tenants/t3nant-s3cret",
    "UMLAUT": "gehäim-s3cret",
    "CLIENT": "client-s3cret",
}
OAUTH2 = 'auth = { type = "oauth2", token_url = "${LOGIN}", client_id = "${CLIENT}", client_secret = "qqqq" }'


@pytest.mark.parametrize(
    ("partner", "shown"),
    [
        (
            'url = "https://${HOST}:8443/hooks/${HOOK}?sig=${SIG}"',
            "https://partner.example:8443/hooks/[secret]",
        ),
        ('url = "${WHOLE}"', "https://partner.example:8443[secret]"),
        ('url = "https://${BEHIND}/rows"', "https://partner.example:443[secret]/rows"),
        ('url = "https://${HOST}/${UMLAUT}"', "https://partner.example:443/[secret]"),
        ('url = "https://us:${PASSWORD}@${HOST}/rows"', "https://partner.example:443/rows"),
        (
            'url = "https://${HOST}/rows"\nstatus_url = "${LOGIN}&key={key}"',
            "https://partner.example:443/rows",
        ),
        (f'url = "https://${{HOST}}/rows"\n{OAUTH2}', "https://partner.example:443/rows"),
    ],
)
def test_what_a_name_stands_for_in_a_url_is_a_secret_but_for_where_it_leads(
    place: Path, monkeypatch: pytest.MonkeyPatch, partner: str, shown: str
) -> None:
    for name, value in {**URL_SECRETS, "HOST": "partner.example"}.items():
        monkeypatch.setenv(name, value)
    text = GOOD.replace(
        'partner = { url = "https://partner.example/v1/orders" }',
        f"[feeds.orders.partner]\n{partner}",
    )
    (place / "feeds.toml").write_text(text, encoding="utf-8")
    feed = checks.load().feed("orders")
    redact, url = prepare(feed).redact, feed.partner.url
    assert redact(f"{url.scheme}://{url.host}:{url.port}{url.path}") == shown
    for name in (name for name in URL_SECRETS if f"${{{name}}}" in partner):
        for secret in re.findall(r"[^/?&=:@]*s3cret", URL_SECRETS[name]):
            escaped = quote(secret, safe="")
            lowered = re.sub("%..", lambda found: found[0].lower(), escaped)
            for said in (
                secret,
                escaped,
                lowered,
                unquote(secret),
                json.dumps(secret),
                html.escape(secret),
            ):
                assert "s3cret" not in redact(f"no such <{said}> here")
    assert redact("rows of partner.example, page 1") == "rows of partner.example, page 1"


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ('table = "orders"\npage_size = "${N}"', "found '${N}'"),
        ('table = "orders"\non_new_column = "${S}"', "found '${S}'"),
        ('table = "orders"\nfilter = [{ column = "a", op = "${S}" }]', "found '${S}'"),
        (
            'table = "orders"\nbody = "${S}:function"',
            'found "${S}:function", which names no function',
        ),
    ],
)
def test_a_problem_is_told_with_the_name_of_what_a_value_came_from(
    place: Path, monkeypatch: pytest.MonkeyPatch, field: str, told: str
) -> None:
    monkeypatch.setenv("S", "pl4nted'\\s3cret")
    monkeypatch.setenv("N", "0")
    problems = _problems(GOOD.replace('table = "dbo.orders"', field), place)
    assert told in str(problems)
    assert "pl4nted" not in str(problems)


@pytest.mark.parametrize(
    ("given", "limit", "rows_may_take"),
    [
        ("", None, 256 * 2**20),
        ("", 2**30, 256 * 2**20),
        ("", 512 * 2**20, 128 * 2**20),
        ("", 16 * 2**30, 256 * 2**20),
        ("1GiB", 2**30, 2**30),
        ("64 MiB", None, 64 * 2**20),
        ("4194304", None, 4 * 2**20),
    ],
)
def test_what_rows_may_take_of_memory_is_set_or_follows_the_containers_limit(
    place: Path, monkeypatch: pytest.MonkeyPatch, given: str, limit: int | None, rows_may_take: int
) -> None:
    monkeypatch.setenv("MEMORY_BUDGET", given)
    monkeypatch.setattr(config, "memory_limit", lambda: limit)
    (place / "feeds.toml").write_text(GOOD, encoding="utf-8")
    assert checks.load().settings.memory_for_rows == rows_may_take


def test_a_memory_budget_that_is_none_is_told_in_plain_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_BUDGET", "plenty")
    told = _problems(GOOD, place)["MEMORY_BUDGET"]
    assert "found 'plenty'; a number of bytes such as" in told
