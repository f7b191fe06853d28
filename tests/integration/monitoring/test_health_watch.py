"""The watchdog: passes signals and exit codes on, and starts anew what makes no progress."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.monitoring.watchdog import FAILURES, Patience, Watchdog
from tests.support.wait import until

QUICK = Patience(
    pause=timedelta(milliseconds=50),
    start=timedelta(milliseconds=200),
    stop=timedelta(milliseconds=300),
)
_STAYS = "import sys, time; open(sys.argv[1], 'a').write(f'{__import__(\"os\").getpid()}\\n'); time.sleep(600)"


async def well(_: int) -> str | None:
    return None


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def _pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
async def test_the_exit_code_is_passed_on(code: str, exit_code: int) -> None:
    assert await Watchdog(_python(code), well, QUICK).run() == exit_code


async def test_a_command_that_cannot_be_run_is_an_error() -> None:
    with pytest.raises(OSError, match="no-such-program"):
        await Watchdog(["/no-such-program"], well, QUICK).run()


async def test_a_signal_reaches_the_child_and_ends_the_watchdog_with_it(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(42)); "
        "__import__('pathlib').Path(sys.argv[1]).touch(); time.sleep(600)"
    )
    ready = tmp_path / "ready"
    watching = asyncio.create_task(Watchdog(_python(code, str(ready)), well, QUICK).run())
    await until(ready.exists, timeout=30, message="the child")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(watching, 30) == 42


async def test_a_signal_that_comes_while_the_child_is_being_started_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = asyncio.create_subprocess_exec

    async def interrupted(*command: str, **options: Any) -> asyncio.subprocess.Process:
        child = await start(*command, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)  # in which the loop calls the signal's handler
        return child

    monkeypatch.setattr(asyncio, "create_subprocess_exec", interrupted)
    watchdog = Watchdog(_python("import time; time.sleep(600)"), well, QUICK)
    assert await asyncio.wait_for(watchdog.run(), 30) == 128 + signal.SIGTERM


async def test_sighup_reaches_the_child_and_the_watchdogs_own_configuration_and_ends_neither(
    tmp_path: Path,
) -> None:
    code = (
        "import pathlib, signal, sys, time; heard = pathlib.Path(sys.argv[1]); "
        "signal.signal(signal.SIGHUP, lambda *_: heard.write_text('heard')); heard.write_text('ready'); "
        "[time.sleep(0.1) for _ in range(6000)]"
    )
    heard, told = tmp_path / "heard", list[bool]()
    watchdog = Watchdog(_python(code, str(heard)), well, QUICK, hung_up=lambda: told.append(True))
    watching = asyncio.create_task(watchdog.run())
    await until(
        lambda: heard.exists() and heard.read_text() == "ready", timeout=60, message="the child"
    )
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: heard.read_text() == "heard", timeout=60, message="the child to hear it")
    assert told == [True]
    assert not watching.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(watching, 60) == 128 + signal.SIGTERM


async def test_a_child_that_stands_still_is_killed_and_started_anew(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    async def stopped(pid: int) -> str | None:
        try:
            return (
                "it stands still" if psutil.Process(pid).status() == psutil.STATUS_STOPPED else None
            )
        except psutil.NoSuchProcess:  # it has ended, and the watchdog does not know yet
            return None

    watching = asyncio.create_task(Watchdog(_python(_STAYS, str(pids)), stopped, QUICK).run())
    await until(lambda: _pids(pids), timeout=30, message="the child")
    (first,) = _pids(pids)
    os.kill(first, signal.SIGSTOP)
    await until(lambda: len(_pids(pids)) == 2, timeout=30, message="a new child")
    assert not psutil.pid_exists(first)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(watching, 30) == 128 + signal.SIGTERM


@pytest.mark.parametrize(("failures", "restarts"), [(FAILURES - 1, False), (FAILURES, True)])
async def test_one_late_mark_restarts_nothing(
    tmp_path: Path, failures: int, restarts: bool
) -> None:
    pids = tmp_path / "pids"
    answers: list[str | None] = [*["late"] * failures, None]  # the last comes first
    asked: list[int] = []

    async def check(pid: int) -> str | None:
        if pid not in _pids(pids):  # it may be ended only once it has written its id down
            return None
        asked.append(pid)
        return answers.pop() if answers else None

    watching = asyncio.create_task(Watchdog(_python(_STAYS, str(pids)), check, QUICK).run())
    begun: Callable[[], bool] = lambda: len(asked) > failures + 3  # noqa: E731 - a condition to wait for
    await until(begun, timeout=30, message="more checks")
    await until(lambda: len(_pids(pids)) == 1 + restarts, timeout=30, message="the child")
    assert len(set(asked)) == 1 + restarts
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(watching, 30)
