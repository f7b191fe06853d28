"""A configuration that is read anew: what takes effect, what does not, and what is said of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import config
from app.configuration import checks
from app.configuration.loaded import LiveFeeds, Loaded
from app.configuration.reload import Changes, Reloader
from tests.support.wait import wait_until

FEED = """
[feeds.{name}]
table = "{name}"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
partner = {{ url = "https://partner.invalid/", auth = {{ type = "bearer", token = "${{TOKEN}}" }} }}
"""
LOOK = timedelta(milliseconds=20)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration of one feed, `orders`, whose token comes from `.env`."""
    monkeypatch.setenv("ROWRELAY_CONFIG", str(tmp_path))
    for name in (
        "TOKEN",
        "REDIS_URL",
        "LEASE",
        "RELOAD_ON_CHANGE",
        "FEEDS_FILE",
        "MSSQL_HOST",
        "SOURCE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    write(tmp_path, "orders")
    (tmp_path / ".env").write_text("TOKEN=first\n", encoding="utf-8")
    return tmp_path


Begin = Callable[..., Loaded]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Has what is loaded now followed by a thread that looks often, until the test is over."""
    reloaders: list[Reloader] = []

    def begun(apply: Callable[[Loaded, config.Config], None] = Loaded.replace) -> Loaded:
        loaded = Loaded(checks.load())
        reloaders.append(Reloader(loaded, lambda found: apply(loaded, found), LOOK))
        reloaders[-1].start()
        return loaded

    yield begun
    for reloader in reloaders:
        reloader.stop()


def write(place: Path, *feeds: str) -> None:
    """As an editor does: another file in its place."""
    new = place / "new"
    new.write_text("".join(FEED.format(name=name) for name in feeds), encoding="utf-8")
    new.replace(place / "feeds.toml")


def read_anew(loaded: Loaded) -> list[str]:
    """What is logged of it."""
    with capture_logs() as logged:
        Reloader(loaded, loaded.replace).read_anew()
    return [event["event"] for event in logged]


def token(loaded: Loaded) -> str:
    told: str = loaded.feed("orders").partner.auth.model_dump()["token"].get_secret_value()
    return told


def test_feeds_that_came_went_and_changed_are_told_apart(place: Path) -> None:
    write(place, "orders", "bills", "old")
    before = checks.load().feeds
    write(place, "orders", "bills", "new")
    text = (place / "feeds.toml").read_text(encoding="utf-8")
    (place / "feeds.toml").write_text(
        text.replace('table = "bills"', 'table = "invoices"'), encoding="utf-8"
    )
    assert Changes.between(before, checks.load().feeds) == Changes(("new",), ("old",), ("bills",))


def test_a_feed_that_is_the_same_stays_the_very_same_object(place: Path) -> None:
    loaded = Loaded(checks.load())
    orders = loaded.feed("orders")
    write(place, "orders", "bills")
    assert read_anew(loaded) == ["configuration_read_anew"]
    assert list(loaded.feeds) == ["orders", "bills"]
    assert loaded.feed("orders") is orders


def test_a_secret_that_was_changed_takes_effect(place: Path) -> None:
    loaded = Loaded(checks.load())
    (place / ".env").write_text("TOKEN=second\n", encoding="utf-8")
    read_anew(loaded)
    assert token(loaded) == "second"


def test_a_file_that_is_wrong_changes_nothing_is_said_once_and_forgotten_when_it_is_mended(
    place: Path,
) -> None:
    loaded = Loaded(checks.load())
    before = loaded.current
    (place / "feeds.toml").write_text("[feeds.orders]\ntable = 1\n", encoding="utf-8")
    assert read_anew(loaded) == ["configuration_kept"]
    assert read_anew(loaded) == [], "the same again is no news"
    assert loaded.current is before
    told = loaded.told()
    assert told.kept_because is not None
    assert "feeds.orders.table" in told.kept_because
    assert "first" not in told.kept_because
    (place / "feeds.toml").unlink()
    assert read_anew(loaded) == ["configuration_kept"]
    assert loaded.told().kept_since == told.kept_since
    write(place, "orders", "bills")
    assert read_anew(loaded) == ["configuration_read_anew"]
    assert loaded.told().kept_because is None
    assert loaded.told().feeds == checks.load().feeds_hash


def test_what_cannot_take_effect_while_the_process_runs_is_named_and_stays(place: Path) -> None:
    loaded = Loaded(checks.load())
    (place / ".env").write_text(
        "TOKEN=second\nREDIS_URL=redis://elsewhere\nMSSQL_HOST=db\nMSSQL_DATABASE=shop\n",
        encoding="utf-8",
    )
    assert read_anew(loaded) == ["configuration_read_anew", "settings_need_restart"]
    assert set(loaded.told().left) == {"REDIS_URL", "MSSQL_HOST", "MSSQL_DATABASE"}
    assert "elsewhere" not in loaded.settings.redis_url.get_secret_value()
    assert token(loaded) == "second", "the rest did"
    (place / ".env").write_text("TOKEN=second\n", encoding="utf-8")
    read_anew(loaded)
    assert loaded.told().left == ()


def test_what_cannot_be_applied_is_kept_out_too(place: Path) -> None:
    loaded = Loaded(checks.load())

    def refuse(_: config.Config) -> None:
        raise OSError("no room")

    write(place, "orders", "bills")
    Reloader(loaded, refuse).read_anew()
    assert list(loaded.feeds) == ["orders"]
    assert loaded.keeps


def test_who_goes_through_the_feeds_sees_them_as_they_were_when_it_began(place: Path) -> None:
    loaded = Loaded(checks.load())
    feeds = LiveFeeds(loaded)
    going = iter(feeds.items())
    values, names = feeds.values(), feeds.keys()
    write(place, "bills")
    read_anew(loaded)
    assert (
        [name for name, _ in going] == ["orders"] == list(names) == [feed.name for feed in values]
    )
    assert list(feeds) == ["bills"]
    assert "orders" not in feeds


def test_it_is_read_when_it_is_asked_for_and_not_before(place: Path) -> None:
    loaded, done = Loaded(checks.load()), threading.Event()
    reloader = Reloader(loaded, loaded.replace, LOOK)
    reloader.start(done.set)
    write(place, "orders", "bills")
    assert not done.wait(10 * LOOK.total_seconds()), "RELOAD_ON_CHANGE is off"
    reloader.ask()
    assert done.wait(30)
    reloader.stop()
    assert list(loaded.feeds) == ["orders", "bills"]


@pytest.mark.parametrize("what", ["feeds.toml", ".env", "a secret's file", "a certificate"])
def test_a_change_of_any_file_is_taken_up_where_that_is_asked_for(
    place: Path, begin: Begin, what: str
) -> None:
    (place / ".env").write_text(
        f"RELOAD_ON_CHANGE=true\nTOKEN_FILE={place / 'token'}\n", encoding="utf-8"
    )
    (place / "token").write_text("first", encoding="utf-8")
    authorities = place / "ca.pem"
    authorities.write_bytes(Path(_certifi()).read_bytes())
    text = (
        (place / "feeds.toml")
        .read_text(encoding="utf-8")
        .replace(
            'partner = { url = "https://partner.invalid/",',
            f'partner = {{ url = "https://partner.invalid/", tls = {{ ca_file = "{authorities}" }},',
        )
    )
    (place / "feeds.toml").write_text(text, encoding="utf-8")
    applied: list[config.Config] = []

    def apply(loaded: Loaded, found: config.Config) -> None:
        applied.append(found)
        loaded.replace(found)

    loaded = begin(apply)
    if what == "feeds.toml":
        write(place, "orders", "bills")
        wait_until(lambda: list(loaded.feeds) == ["orders", "bills"], timeout=30, message=what)
    elif what == ".env":
        (place / ".env").write_text("RELOAD_ON_CHANGE=true\nTOKEN=third\n", encoding="utf-8")
        wait_until(lambda: token(loaded) == "third", timeout=30, message=what)
    elif what == "a secret's file":
        (place / "token").write_text("second", encoding="utf-8")
        wait_until(lambda: token(loaded) == "second", timeout=30, message=what)
    else:
        os.utime(authorities, ns=(1, 1))
        wait_until(lambda: applied, timeout=30, message=what)


def test_where_that_is_asked_for_what_is_wrong_is_looked_at_again_until_it_is_mended(
    place: Path, begin: Begin
) -> None:
    """The file that it lacks is none that it knows of."""
    (place / ".env").write_text("RELOAD_ON_CHANGE=true\nTOKEN=first\n", encoding="utf-8")
    loaded = begin()
    (place / ".env").write_text(
        f"RELOAD_ON_CHANGE=true\nTOKEN_FILE={place / 'token'}\n", encoding="utf-8"
    )
    wait_until(lambda: loaded.keeps, timeout=30, message="it to be found wrong")
    (place / "token").write_text("second", encoding="utf-8")
    wait_until(lambda: token(loaded) == "second", timeout=30, message="it to be found mended")


def _certifi() -> str:
    import certifi

    return certifi.where()
