"""The Celery application is what the configuration says, and carries no more than ids."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import config
from app.broker.queue import QUEUES
from app.configuration.loaded import Loaded
from app.core.errors import BrokerUnavailable
from app.feeds.feed import Feed
from tests.unit.configuration.test_config import GOOD


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """A configuration with one feed."""
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("FEEDS_FILE", str(feeds))
    return config.load()


def test_beat_has_an_entry_a_feed_and_no_backlog_of_ticks_builds_up(loaded: config.Config) -> None:
    from tasks.schedule import beat_schedule

    schedule = beat_schedule(loaded)
    jobs = {"report_hour", "report_day", "reconcile", "purge"}
    assert set(schedule) == {"poll:orders", "retries", "sweep", "adopt_orphans", *jobs}
    assert schedule["poll:orders"]["kwargs"] == {"feed": "orders"}
    for entry in schedule.values():
        assert entry["options"]["expires"] == max(entry["schedule"].seconds, 10)
    assert schedule["retries"]["schedule"].seconds == 1, "a retry comes within a second of its time"


@pytest.mark.usefixtures("loaded")
def test_beat_has_notifications_looked_after_where_somebody_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks.schedule import beat_schedule

    monkeypatch.setenv("NOTIFY_WEBHOOK_URL", "https://hooks.example/x")
    assert beat_schedule(config.load())["notify"]["task"] == "notify"


def test_a_beat_that_starts_owes_everything_and_keeps_no_file(
    loaded: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.beat import Service

    from tasks.application import make_application

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    app = make_application(loaded)
    schedule = Service(app, scheduler_cls=app.conf.beat_scheduler).scheduler.schedule
    assert (
        {name for name, entry in schedule.items() if entry.is_due()[0]}
        == set(schedule)
        >= {"poll:orders"}
    )
    assert not list(Path.cwd().iterdir())


def test_beat_follows_a_configuration_that_was_replaced(
    loaded: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.beat import Service

    from tasks import schedule
    from tasks.application import make_application

    running, moment = Loaded(loaded), [datetime(2026, 1, 1, tzinfo=UTC)]
    monkeypatch.setattr(schedule, "steady_now", lambda: moment[0])
    app = make_application(running)
    scheduler = Service(app, scheduler_cls=app.conf.beat_scheduler).scheduler
    monkeypatch.setattr(type(scheduler), "producer", None)

    def sent(**feeds: Feed) -> set[str]:
        """What is sent at once when these are the feeds."""
        running.replace(replace(loaded, feeds=feeds))
        names: set[str] = set()
        monkeypatch.setattr(scheduler, "apply_entry", lambda entry, **_: names.add(entry.name))
        while scheduler.tick() <= 0:
            pass
        return {name for name in names if name.startswith("poll:")}

    slow = loaded.feed("orders").model_copy(update={"poll_every": timedelta(hours=1)})
    soon = slow.model_copy(update={"poll_every": timedelta(minutes=1)})
    assert sent(orders=slow) == {"poll:orders"}
    assert sent(orders=slow, bills=slow) == {"poll:bills"}, (
        "what was polled a moment ago is not polled again"
    )
    moment[0] += timedelta(minutes=2)
    assert sent(orders=slow, bills=slow) == set()
    assert sent(orders=soon, bills=slow) == {"poll:orders"}
    assert sent(bills=slow) == set()
    assert {name for name in scheduler.schedule if name.startswith("poll:")} == {"poll:bills"}


def test_a_terminal_that_is_closed_ends_the_process_and_sighup_alone_does_not(
    loaded: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import reload
    from tasks.application import make_application

    ours, theirs = os.openpty()
    monkeypatch.setattr(reload, "STDOUT", theirs)
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("stop"))
    try:
        reloading = reload.Reloading(make_application(loaded))
        monkeypatch.setattr(reloading._reloader, "ask", lambda: heard.append("read anew"))
        reloading._asked()
        os.close(ours)
        reloading._asked()
        assert heard == ["read anew", "stop"]
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(theirs)


def test_messages_are_json_acknowledged_late_and_on_three_queues(loaded: config.Config) -> None:
    from tasks.application import make_application

    conf = make_application(loaded).conf
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (
        True,
        1,
        True,
    )
    assert (
        {queue.name for queue in conf.task_queues}
        == {"poll", "deliver", "maintenance"}
        == set(QUEUES)
    )
    assert conf.worker_pool == "threads"
    transport = make_application(loaded).connection_for_write().get_transport_cls()
    assert f"{transport.__module__}.{transport.__name__}" == "tasks.transport.Transport"


def test_a_beat_whose_machine_is_set_back_goes_on_sending(
    loaded: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from celery.beat import Service

    from tasks.application import make_application

    app = make_application(loaded)
    started, passed = time.monotonic(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: started + passed)
    entries = Service(app, scheduler_cls=app.conf.beat_scheduler).scheduler.schedule
    sent = {name: next(entry) for name, entry in entries.items()}
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not any(entry.is_due()[0] for entry in sent.values())
    passed = 400.0
    assert all(entry.is_due()[0] for entry in sent.values())


def test_a_tick_lives_by_the_clock_that_all_processes_go_by(
    loaded: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import app.core.clock as clock_module
    from tasks.application import make_application

    app = make_application(loaded)
    clock = clock_module.ServerClock(wall=lambda: 0.0, steady=lambda: 0.0)
    clock.note(datetime(2030, 1, 1, tzinfo=UTC), 0.0, 0.0)
    monkeypatch.setattr(clock_module, "server_clock", clock)
    sent = app.amqp.as_task_v2("1", "sweep", expires=10).headers
    assert sent["expires"].startswith("2030-01-01T00:00:10")


def test_a_form_stands_for_every_task(loaded: config.Config) -> None:
    from tasks.application import make_application
    from tasks.messages import FORMS

    app = make_application(loaded)
    app.loader.import_default_modules()
    assert {name for name in app.tasks if not name.startswith("celery.")} == FORMS.keys()


def test_a_task_works_with_what_its_own_application_has(loaded: config.Config) -> None:
    from tasks.application import make_application

    applications = [make_application(loaded), make_application(loaded)]
    applications[0].loader.import_default_modules()
    for app in applications:
        tasks: list[Any] = [app.tasks[name] for name in ("poll", "deliver", "sweep")]
        assert [task.relay for task in tasks] == [app] * 3
    assert applications[0].queue is not applications[1].queue


def test_without_a_broker_nothing_is_made_and_one_message_says_so(loaded: config.Config) -> None:
    from tasks.application import make_application

    nowhere = loaded.settings.model_copy(update={"redis_url": SecretStr("")})
    with pytest.raises(BrokerUnavailable, match="REDIS_URL is empty: set it"):
        make_application(replace(loaded, settings=nowhere))


def test_a_broker_that_is_away_is_told_at_once_and_in_a_line(loaded: config.Config) -> None:
    from tasks.ping import ask

    away = loaded.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with pytest.raises(BrokerUnavailable, match=r"^broker: .*Connection refused"):
        ask(replace(loaded, settings=away), 2, 3, timedelta(seconds=1))


def test_every_task_goes_to_its_queue(loaded: config.Config) -> None:
    from tasks.application import make_application

    router = make_application(loaded).amqp.router
    queues = {
        name: router.route({}, name)["queue"].name
        for name in ("poll", "deliver", "retries", "sweep", "adopt_orphans", "add")
    }
    assert queues == dict.fromkeys(("retries", "sweep", "adopt_orphans", "add"), "maintenance") | {
        "poll": "poll", "deliver": "deliver",
    }  # fmt: skip


def test_add_adds() -> None:
    from tasks.ping import add

    assert add.run(2, 3) == 5


def test_a_worker_says_which_queues_it_takes_messages_from(loaded: config.Config) -> None:
    from tasks.application import make_application

    app = make_application(loaded)
    assert app.takes_from("deliver")
    app.amqp.queues.select(["poll"])  # as `celery worker -Q poll` does
    assert (app.takes_from("poll"), app.takes_from("deliver")) == (True, False)
