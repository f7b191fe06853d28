"""What Celery's commands offer and this application does not honour is refused at the start, with
what to use.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import orjson
import pytest

from app.testbed.embedded.stack import ROOT, Stack
from tests.acceptance.test_programs import CELERY
from tests.support.wait import wait_until

REFUSED = {
    ("worker", "--pool=prefork"): "--pool processes",
    ("beat", "-S", "celery.beat:PersistentScheduler"): "feeds.toml",
}
"""Each other option: `tests/unit/tasks/test_celery_options.py`."""


def test_what_cannot_be_honoured_is_refused_at_the_start(stack: Stack) -> None:
    running = {
        options: subprocess.Popen(
            [CELERY, "-A", "celery_app", *options],
            cwd=ROOT,
            env=stack.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for options in REFUSED
    }
    ended = {
        options: (process.communicate(timeout=240)[0], process)
        for options, process in running.items()
    }
    for options, (said, process) in ended.items():
        assert process.returncode == 2, (options, said)
        assert REFUSED[options] in said


def test_a_detached_worker_logs_to_the_file_that_it_was_given_at_the_level_that_was_named(
    stack: Stack, tmp_path: Path
) -> None:
    log, pid = tmp_path / "w.log", tmp_path / "w.pid"
    options = ["worker", "--detach", "-l", "DEBUG", "-f", str(log), "--pidfile", str(pid)]
    subprocess.run(
        [CELERY, "-A", "celery_app", *options],
        cwd=ROOT,
        env=stack.environment,
        check=True,
        timeout=120,
    )
    try:
        wait_until(
            lambda: log.exists() and "ready." in log.read_text(encoding="utf-8"),
            timeout=90,
            message="the log",
        )
        events = [orjson.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        assert "debug" in {event["level"] for event in events}
    finally:
        wait_until(pid.exists, timeout=60, message="the worker's process id")
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGTERM)
        wait_until(lambda: not pid.exists(), timeout=60, message="the worker to end")


@pytest.mark.parametrize("pool", ["processes", "solo"])
def test_pools_that_work_are_no_problem(pool: str) -> None:
    import click

    from tasks.options import problems

    command = click.Command(
        "worker", params=[click.Option(["--time-limit"]), click.Option(["--pool"])]
    )
    argv = ["--pool", pool, "--time-limit", "5"]
    found = list(problems("worker", command.make_context("worker", list(argv)), argv))
    assert [one for one in found if "pool" in one] == []
    assert bool(found) is (pool == "solo"), "a limit of time is honoured by processes alone"


@pytest.mark.parametrize(
    "written", [["-P", "gevent"], ["-Pgevent"], ["--pool", "eventlet"], ["--pool=prefork"]]
)
def test_a_pool_that_is_none_of_ours_is_refused_however_it_is_written(written: list[str]) -> None:
    import click

    from tasks.options import problems

    (problem,) = problems(
        "worker", click.Command("worker").make_context("worker", []), ["celery", "worker", *written]
    )
    assert "WORKER_CONCURRENCY" in problem


@pytest.mark.parametrize(
    ("variable", "value", "use"),
    [
        ("CELERY_WORKER_AUTOSCALE", "8,2", "WORKER_CONCURRENCY"),
        ("CELERY_WORKER_POOL", "prefork", "--pool processes"),
        ("CELERY_WORKER_TIME_LIMIT", "5", "a thread cannot be stopped"),
        ("CELERY_WORKER_BEAT", "1", "celery -A celery_app beat"),
    ],
)
def test_an_option_that_the_environment_gives_is_refused_as_one_that_is_written(
    variable: str, value: str, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import click
    from celery.bin.worker import worker

    from tasks.options import problems

    params = [
        option for option in worker.params if option.name in ("autoscale", "time_limit", "beat")
    ]
    params.append(click.Option(["--pool"]))  # Celery's wants an application
    command = click.Command("worker", params=params)
    assert (
        list(
            problems(
                "worker", command.make_context("worker", [], auto_envvar_prefix="CELERY_WORKER"), []
            )
        )
        == []
    )
    monkeypatch.setenv(variable, value)
    (problem,) = problems(
        "worker", command.make_context("worker", [], auto_envvar_prefix="CELERY_WORKER"), []
    )
    assert use in problem
    assert variable in problem or "--pool prefork" in problem
