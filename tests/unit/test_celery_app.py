"""The Celery application is what the configuration says, and carries no more than ids."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from app.cli.metrics import QUEUES
from tests.unit.test_config import GOOD


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """A configuration with one feed, that `celery_app` finds when it is imported."""
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("FEEDS_FILE", str(feeds))
    return config.load()


def test_beat_has_an_entry_a_feed_and_no_backlog_of_ticks_builds_up(loaded: config.Config) -> None:
    from celery_app import beat_schedule

    schedule = beat_schedule(loaded)
    jobs = {"report_hour", "report_day", "reconcile", "purge"}
    assert set(schedule) == {"poll:orders", "retries", "sweep", "adopt_orphans", *jobs}
    assert schedule["poll:orders"]["kwargs"] == {"feed": "orders"}
    for entry in schedule.values():
        assert entry["options"]["expires"] == max(entry["schedule"], 10)
    assert schedule["retries"]["schedule"] == 1, "a retry comes within a second of its time"


def test_a_beat_that_starts_owes_everything_and_keeps_no_file(
    loaded: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.beat import Service

    from celery_app import make_app

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    app = make_app(loaded)
    schedule = Service(app, scheduler_cls=app.conf.beat_scheduler).scheduler.schedule
    assert {name for name, entry in schedule.items() if entry.is_due()[0]} == set(schedule) >= {"poll:orders"}
    assert not list(Path.cwd().iterdir())


def test_messages_are_json_acknowledged_late_and_on_three_queues(loaded: config.Config) -> None:
    from celery_app import make_app

    conf = make_app(loaded).conf
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (True, 1, True)
    assert {queue.name for queue in conf.task_queues} == {"poll", "deliver", "maintenance"} == set(QUEUES)
    assert (conf.worker_pool, conf.broker_transport_options["visibility_timeout"]) == ("threads", 300)


def test_every_task_goes_to_its_queue(loaded: config.Config) -> None:
    from celery_app import make_app

    router = make_app(loaded).amqp.router
    queues = {
        name: router.route({}, name)["queue"].name
        for name in ("poll", "deliver", "retries", "sweep", "adopt_orphans", "add")
    }
    assert queues == dict.fromkeys(("retries", "sweep", "adopt_orphans", "add"), "maintenance") | {
        "poll": "poll", "deliver": "deliver",
    }  # fmt: skip


def test_add_adds(loaded: config.Config) -> None:  # noqa: ARG001 - celery_app reads it
    from tasks.health import add

    assert add.run(2, 3) == 5
