"""When a worker, beat or feed counts as making no progress, and when as waiting for someone else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.cursors import Cursor
from app.ledger.heartbeats import DURATION_BOUNDS, Heartbeat, Role
from app.monitoring.health import POLLS_MISSED, Bounds, judge_feed, judge_process
from app.monitoring.heartbeat import Activity, Observed, pause_between
from tests.support.feeds import make_feed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOUND, SINGLE, SCHEDULE = 45, 30, 5
BOUNDS = Bounds(timedelta(seconds=BOUND), timedelta(seconds=SCHEDULE), timedelta(seconds=SINGLE))
WORKER = Heartbeat(
    Role.WORKER,
    "celery@host",
    "host",
    17,
    started_at=NOW - timedelta(hours=1),
    marked_at=NOW,
    broker_seconds=3600.0,
    consumer_seconds=0.5,
    loop_seconds=0.0,
    moved_seconds=0.1,
)
BEAT = Heartbeat(
    Role.BEAT,
    "beat@host",
    "host",
    18,
    NOW - timedelta(hours=1),
    NOW,
    broker_seconds=3600.0,
    sent_seconds=1.0,
)


@pytest.mark.parametrize("heartbeat", [WORKER, BEAT])
def test_what_gets_on_is_live_and_ready(heartbeat: Heartbeat) -> None:
    health = judge_process(heartbeat, BOUNDS, NOW + timedelta(seconds=5))
    assert (health.problems, health.waits_for) == ((), ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"marked_at": NOW - timedelta(seconds=BOUND + 1)}, "stands still: no sign of it for 46 s"),
        ({"consumer_seconds": BOUND + 1.0}, "lost its consumer"),
        ({"waiting_seconds": BOUND + 1.0}, "takes no work"),
        ({"loop_seconds": BOUND + 1.0}, "event loop has been blocked"),
        (
            {"running": 2, "moved_seconds": BOUND + SINGLE + 1.0},
            "2 tasks run, and nothing has come of them",
        ),
    ],
)
def test_a_worker_that_makes_no_progress_is_not_live(changes: dict[str, Any], said: str) -> None:
    health = judge_process(replace(WORKER, **changes), BOUNDS, NOW)
    assert not health.live
    assert said in health.problems[0]
    within: dict[str, Any] = {
        name: value - 2 if isinstance(value, float) else value for name, value in changes.items()
    }
    if "marked_at" in within:
        within["marked_at"] = NOW - timedelta(seconds=BOUND - 1)
    assert judge_process(replace(WORKER, **within), BOUNDS, NOW).live


def test_an_idle_worker_is_live_however_long_nothing_has_moved() -> None:
    assert judge_process(replace(WORKER, running=0, moved_seconds=99_999.0), BOUNDS, NOW).live


def test_beat_that_sends_nothing_is_not_live() -> None:
    assert judge_process(replace(BEAT, sent_seconds=float(BOUND + SCHEDULE - 1)), BOUNDS, NOW).live
    assert not judge_process(
        replace(BEAT, sent_seconds=float(BOUND + SCHEDULE + 1)), BOUNDS, NOW
    ).live


@pytest.mark.parametrize(
    "heartbeat", [replace(WORKER, consumer_seconds=600.0), replace(BEAT, sent_seconds=600.0)]
)
def test_redis_away_is_not_the_processs_fault_and_it_has_a_bound_to_come_back(
    heartbeat: Heartbeat,
) -> None:
    away = judge_process(replace(heartbeat, broker_seconds=None), BOUNDS, NOW)
    assert (away.live, away.ready) == (True, False)
    assert judge_process(replace(heartbeat, broker_seconds=BOUND - 1.0), BOUNDS, NOW).ready
    assert not judge_process(
        replace(heartbeat, broker_seconds=float(BOUND + SCHEDULE + 1)), BOUNDS, NOW
    ).live


def test_a_worker_that_stops_need_not_take_work_but_must_not_stand_still() -> None:
    stopping = replace(WORKER, stopping=True, consumer_seconds=600.0)
    assert judge_process(stopping, BOUNDS, NOW).live
    assert not judge_process(stopping, BOUNDS, NOW).ready
    assert not judge_process(stopping, BOUNDS, NOW + timedelta(seconds=BOUND + 1)).live


def test_a_feed_must_be_polled_unless_it_is_paused_or_backs_off() -> None:
    feed = make_feed(poll_every=timedelta(seconds=5), poll_budget=timedelta(seconds=20))
    limit = timedelta(seconds=BOUND + 5 * POLLS_MISSED + 20)
    polled = Cursor("orders", last_poll_at=NOW)
    assert judge_feed(feed, polled, BOUNDS, NOW + limit).ready
    late = NOW + limit + timedelta(seconds=1)
    assert judge_feed(feed, polled, BOUNDS, late).problems == ("was last polled 81 s ago",)
    assert not judge_feed(feed, Cursor("orders"), BOUNDS, NOW).live
    stopped = replace(polled, paused=True, paused_reason="410 Gone")
    for cursor, told in (
        (replace(stopped, sends=False), "paused: 410 Gone"),
        (stopped, "polling paused: 410 Gone"),
        (
            replace(stopped, sends=False, sending_paused="x"),
            "polling paused: 410 Gone; sending paused: x",
        ),
    ):
        paused = judge_feed(feed, cursor, BOUNDS, late)
        assert (paused.live, paused.ready, paused.waits_for) == (True, False, (told,))
    unsent = replace(polled, sends=False, sending_paused="x")
    assert judge_feed(feed, unsent, BOUNDS, NOW).waits_for == ("sending paused: x",)
    assert not judge_feed(feed, unsent, BOUNDS, late).live
    away = replace(
        polled, failures=9, retry_at=NOW + timedelta(minutes=5), last_error="source: away"
    )
    assert judge_feed(feed, away, BOUNDS, late).live
    assert not judge_feed(
        feed, away, BOUNDS, NOW + timedelta(minutes=5) + limit + timedelta(seconds=1)
    ).live


def test_the_bounds_follow_from_the_feeds() -> None:
    feed = make_feed(poll_every=timedelta(seconds=7))
    second = timedelta(seconds=1)
    bounds = Bounds.of(
        [feed],
        SimpleNamespace(
            progress_bound=45 * second, sweep_every=10 * second, statement_timeout=30 * second
        ),
    )
    assert (bounds.schedule, bounds.single) == (7 * second, 30 * second)


def test_messages_wait_only_while_there_is_room_and_none_is_taken() -> None:
    progress = Activity()
    observed = Observed(progress, ("poll", "deliver"))

    def waits(poll: int, deliver: int, *, full: bool = False) -> float | None:
        observed.note_waiting({"poll": poll, "deliver": deliver}, full=full)
        return observed.waiting_since

    since = waits(0, 3)
    assert since is not None
    progress.taken["poll"] += 1
    assert waits(0, 3) == since, "work of another queue"
    progress.taken["deliver"] += 1
    assert waits(0, 2) is None
    assert waits(1, 2, full=True) is None
    assert waits(1, 2) is not None
    assert waits(0, 0) is None


def test_a_loop_that_owes_a_sign_of_life_is_asked_once_and_ages() -> None:
    observed = Observed(Activity(), ())
    owed: list[Callable[[], None]] = []
    observed.probe(lambda _: False)
    assert observed.loop_seconds == 0, "there is no loop yet"

    def owing(answered: Callable[[], None]) -> bool:
        owed.append(answered)
        return True

    for _ in range(3):
        observed.probe(owing)
    assert len(owed) == 1
    assert observed.loop_seconds > 0
    owed[0]()
    assert observed.loop_seconds == 0


def test_runs_of_a_task_are_counted_by_how_long_they_took() -> None:
    progress = Activity()
    for number, failed in enumerate([False, False, True]):
        progress.task_begins(str(number))
        assert progress.running == 1
        progress.task_ends(str(number), "poll", failed=failed)
    progress.task_ends("never begun", "poll", failed=False)
    times = progress.times["poll"]
    assert (times.done, times.failed, sum(times.buckets)) == (3, 1, 3)
    assert Counter(times.buckets)[0] == len(DURATION_BOUNDS), "all in the first bucket"
    assert progress.moved_at is not None


def test_marks_are_seconds_apart_however_long_the_bound() -> None:
    assert pause_between(timedelta(seconds=45)) == timedelta(seconds=5)
    assert pause_between(timedelta(hours=1)) == timedelta(seconds=5)
    assert pause_between(timedelta(seconds=9)) == timedelta(seconds=1)
