"""The demo, as a newcomer starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from app.testbed.embedded.stack import ROOT
from tests.support.wait import wait_until

ENDS_SECONDS = 100
"""What the end of all its processes may take on a busy machine."""


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    """The demo with its temporary directory, and its report, in `place`."""
    return subprocess.Popen(
        [sys.executable, "-m", "app", "demo", *options],
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_it_says_on_which_servers_it_runs_and_its_books_balance(tmp_path: Path) -> None:
    options = [
        "--rows",
        "200",
        "--rate",
        "0",
        "--pattern",
        "steady",
        "--faults",
        "mild",
        "--json",
        "books.json",
    ]
    with start(tmp_path, *options) as demo:
        told, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, told
    assert f"- {EmbeddedMongo().description}\n" in told
    assert f"- {EmbeddedRedis().description}\n" in told
    books = orjson.loads((tmp_path / "books.json").read_bytes())
    assert (books["rows"], books["delivered"], books["differences"]) == (200, 200, [])
    assert not list(tmp_path.glob("rowrelay-*"))
    assert "Top errors" in told
    assert "-m app" not in told, "a command whose servers are gone"


def _more_than(count: int, found: list[psutil.Process]) -> list[psutil.Process]:
    return found if len(found) > count else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_stopped_no_process_and_no_directory_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        while "the source" not in (line := demo.stdout.readline()):
            assert line, "the demo ended early"
        wait_until(lambda: list(tmp_path.glob("rowrelay-demo-*/worker1.log")), message="a worker")
        started = wait_until(
            lambda: _more_than(6, psutil.Process(demo.pid).children(recursive=True)),
            message="guards, servers, partner and worker",
        )
        demo.send_signal(number)
        rest = demo.stdout.read()
    assert "Traceback" not in rest
    _, alive = psutil.wait_procs(started, timeout=ENDS_SECONDS)
    assert not alive
    wait_until(
        lambda: not list(tmp_path.glob("rowrelay-*")),
        timeout=ENDS_SECONDS,
        message="the directory to be removed",
    )


def test_kept_it_serves_the_console_for_a_user_of_this_run(tmp_path: Path) -> None:
    options = ["--rows", "20", "--rate", "0", "--pattern", "steady", "--faults", "none", "--keep"]
    with start(tmp_path, *options) as demo:
        assert demo.stdout is not None
        told = ""
        while "Ctrl-C" not in told:
            line = demo.stdout.readline()
            assert line, told
            told += line
        try:
            found = re.search(r"console: (http://\S+)\n +log in as (\S+) with (\S+),", told)
            assert found, told
            url, name, password = found.groups()
            with httpx.Client(base_url=url, headers={"Origin": url}, trust_env=False) as browser:
                login = {"name": name, "password": password}
                assert browser.post("/login", data=login).status_code == 303
                me = browser.get("/api/v1/users/me").json()
                assert (me["name"], me["role"]) == (name, "admin")
        finally:
            demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert demo.returncode == 0, told + rest
    assert not list(tmp_path.glob("rowrelay-*"))
