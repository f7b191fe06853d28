"""What is said of a process that runs with another configuration than it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.configuration import checks
from app.configuration.configured import Own, said_of_configuration
from app.ledger.heartbeats import Configured, Heartbeat, Role

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
READ_AT = NOW - timedelta(hours=3)
RUNS = Configured("aaaa", READ_AT)
HEARTBEAT = Heartbeat(Role.WORKER, "celery@here", "here", 7, READ_AT, NOW, configuration=RUNS)

FEED = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "https://partner.invalid/", headers = { x-key = "${KEY}" } }
"""


def said(configuration: Configured | None, own: Own | None) -> list[str]:
    return list(said_of_configuration(replace(HEARTBEAT, configuration=configuration), own, NOW))


def test_nothing_is_said_of_a_process_that_runs_with_what_it_should_or_does_not_tell() -> None:
    assert said(RUNS, Own("aaaa", NOW)) == []
    assert said(RUNS, None) == []
    assert said(None, Own("aaaa", NOW)) == []


@pytest.mark.parametrize(
    ("changed_at", "which"),
    [
        (READ_AT + timedelta(seconds=1), "an older feeds.toml"),
        (READ_AT - timedelta(seconds=1), "another feeds.toml than this one"),
        (None, "another feeds.toml than this one"),
    ],
    ids=["changed-since", "not-changed-since", "nobody-knows"],
)
def test_one_that_runs_another_feeds_toml_is_named_with_what_to_do(
    changed_at: datetime | None, which: str
) -> None:
    (told,) = said(RUNS, Own("bbbb", changed_at))
    assert told.startswith(f"runs {which}, read 3 h ago: ")
    assert "process 7 on here" in told


def test_one_that_keeps_its_configuration_because_the_new_one_is_wrong_says_what_is_wrong_with_it() -> (
    None
):
    kept = replace(
        RUNS, kept_since=NOW - timedelta(minutes=2), kept_because="feeds.toml: TOML: found a hole"
    )
    (told,) = said(kept, Own("bbbb", NOW))
    assert "it read 3 h ago" in told
    assert "2 min" in told
    assert "feeds.toml: TOML: found a hole" in told


def test_settings_that_a_process_goes_on_with_are_named() -> None:
    (told,) = said(replace(RUNS, left=("REDIS_URL", "LEASE")), Own("aaaa", NOW))
    assert "REDIS_URL, LEASE" in told


def test_the_hash_is_of_what_is_written_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feeds.toml"
    monkeypatch.setenv("FEEDS_FILE", str(path))

    def hashed(text: str, key: str) -> str:
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("KEY", key)
        return checks.load().feeds_hash

    first = hashed(FEED, "one")
    assert hashed(f"# a comment\n{FEED}", "two") == first
    assert hashed(FEED.replace("x-key", "x-other"), "one") != first
