"""File descriptors: a worker asks for what it needs at start, and sends less at once where it may
not have so many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.clock import utc_now
from app.ledger import Ledger
from app.ledger.heartbeats import Heartbeat, Role
from app.monitoring.health import failing_tasks
from app.partner.throttle.store import ThrottleStore
from app.partner.throttle.throttles import Throttles
from app.runtime.descriptors import (
    Limit,
    Need,
    limit,
    need_of,
    part_that_fits,
    raise_limit,
    shortage,
)
from tests.support.feeds import make_feed
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[3]
FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://127.0.0.1:9/", concurrency = 150 }
"""


def test_the_need_follows_from_the_feeds_and_the_tasks() -> None:
    feeds = [make_feed("a", concurrency=100), make_feed("b", concurrency=40)]
    need = need_of(feeds, 16)
    assert need.partners == 140
    assert need_of(feeds, 32).total > need.total > need.partners + 16
    assert need_of(feeds, 10_000).ledger == need_of(feeds, 20_000).ledger, (
        "the driver's pool has an end"
    )
    assert str(need).startswith(f"{need.total}: 140 to partners")


NEED = Need(partners=100, ledger=50, broker=30, rest=20, usual=60)


@pytest.mark.parametrize(
    ("soft", "part"), [(300, 1.0), (160, 1.0), (159, 0.99), (110, 0.5), (60, 0.01), (20, 0.01)]
)
def test_what_does_not_fit_is_taken_from_what_is_sent_at_once(soft: int, part: float) -> None:
    assert part_that_fits(NEED, soft) == pytest.approx(part)


def test_a_shortage_is_told_with_its_numbers_and_what_to_do() -> None:
    assert shortage(NEED, 200) is None
    said = shortage(NEED, 110)
    assert said
    for told in (
        "may have 110",
        "needs 200",
        "100 to partners",
        "about 50 requests",
        "ulimit -Hn",
        "concurrency",
    ):
        assert told in said
    scarce = shortage(NEED, 180)
    assert scarce
    assert "runs short where all are needed at once" in scarce


async def test_a_process_with_too_few_sends_its_part_of_a_feeds_concurrency(
    clean_redis_url: str,
) -> None:
    throttles = Throttles(ThrottleStore(clean_redis_url, "short"), part=0.25)
    throttles.start()
    try:
        throttle = await throttles.of(make_feed(concurrency=100))
        await until(lambda: throttle.slots.limit == 25)
        tiny = await throttles.of(make_feed("tiny", concurrency=2))
        await until(lambda: tiny.slots.limit == 1, message="at least one")
    finally:
        await throttles.close()


async def test_the_mark_keeps_what_is_short_and_health_says_so(ledger: Ledger) -> None:
    now = utc_now()
    await ledger.heartbeats.put(
        Heartbeat(Role.WORKER, "celery@here", "here", 1, now, now, short_of="it may have 64")
    )
    (mark,) = await ledger.heartbeats.since(now - timedelta(minutes=1))
    assert failing_tasks(mark, now) == ["it may have 64"]


# --- real processes

RAISE = """
import json, config
from app.runtime.descriptors import limit, need_of, raise_limit, shortage
need = need_of(config.load().feeds.values(), 16)
found = raise_limit(need)
print(json.dumps([need.total, found.soft, found.hard, shortage(need, found.soft)]))
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python in a process of its own, with a limit as `ulimit -n` sets it."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "MONGO_URL": "mongodb://127.0.0.1:9/rowrelay",
        "CONNECT_TIMEOUT": "1s",
        "COLUMNS": "500",
    }

    def ran(ulimit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", f'{ulimit}; exec "$0" "$@"', sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return ran


@pytest.mark.parametrize(
    ("ulimit", "then", "hard_then"),
    [
        ("ulimit -Sn 100; ulimit -Hn 2000", None, 2000),
        ("ulimit -Sn 1500; ulimit -Hn 2000", 1500, 2000),
        ("ulimit -n 120", 120, 120),
    ],
    ids=["raised to the need", "high enough", "as far as it goes"],
)
def test_a_process_raises_its_limit_to_what_it_needs(
    run: Run, ulimit: str, then: int | None, hard_then: int
) -> None:
    done = run(ulimit, "-c", RAISE)
    assert done.returncode == 0, done.stderr
    need, soft, hard, said = json.loads(done.stdout)
    assert (soft, hard) == (then or need, hard_then)
    assert (said is None) is (soft >= need)


@pytest.mark.parametrize(
    ("ulimit", "told"),
    [
        (
            "ulimit -Sn 100; ulimit -Hn 2000",
            "may have 100, and raises that by itself: the hard limit is 2000",
        ),
        ("ulimit -n 120", "it may have 120 file descriptors and needs"),
    ],
)
def test_doctor_says_what_a_worker_needs_and_may_have(run: Run, ulimit: str, told: str) -> None:
    done = run(ulimit, "-m", "app", "doctor")
    assert told in done.stdout
    assert "150 to partners" in done.stdout


def test_raising_changes_nothing_where_there_is_enough() -> None:
    before = limit()
    assert isinstance(before, Limit)
    assert raise_limit(Need(1, 1, 1, 1, 1)) == before
