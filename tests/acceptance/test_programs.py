"""`celery -A celery_app worker`, `… beat` and `… flower` work as they are, from the project's root."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.testbed.embedded.process import Process
from app.testbed.embedded.server import free_port
from app.testbed.embedded.stack import ROOT, Stack
from tests.support.tls_front import tls_front
from tests.support.wait import wait_until

CELERY = Path(sys.executable).parent / "celery"


@pytest.fixture
def started(stack: Stack) -> Iterator[list[Process]]:  # noqa: ARG001 - the servers outlive the processes
    """Processes that are stopped with the test."""
    processes: list[Process] = []
    yield processes
    for process in reversed(processes):
        process.stop()


def _start(stack: Stack, started: list[Process], name: str, *arguments: str) -> Process:
    argv = [str(CELERY), "-A", "celery_app", *arguments]
    process = Process(
        name, argv, env=stack.environment, cwd=ROOT, log=stack.directory / f"{name}.log"
    ).start()
    started.append(process)
    return process


def _page(port: int, path: str, login: tuple[str, str] | None = None) -> str:
    """A page of Flower's; empty while it does not answer."""
    try:
        return httpx.get(
            f"http://127.0.0.1:{port}/{path}", auth=login, trust_env=False, timeout=30
        ).text
    except httpx.TransportError:
        return ""


def _accepted(stack: Stack) -> int:
    with stack.partner() as partner:
        return int(partner.get("/_simulator/counts").json()["unique"])


def test_worker_beat_and_flower_run_from_the_projects_root(
    stack: Stack, started: list[Process]
) -> None:
    worker = _start(stack, started, "worker", "worker")
    _start(stack, started, "beat", "beat")
    port = free_port()
    _start(
        stack,
        started,
        "flower",
        "flower",
        "--address=127.0.0.1",
        f"--port={port}",
        "--basic-auth=me:s3cret",
    )
    stack.start_generator(10)

    wait_until(lambda: _accepted(stack) == 10, timeout=60, message="10 rows at the partner")
    login = ("me", "s3cret")
    wait_until(
        lambda: "celery@" in _page(port, "workers", login),
        timeout=60,
        message="Flower to show the worker",
    )
    assert "flower_" in _page(port, "metrics", login)
    assert [_page(port, path) for path in ("metrics", "workers", "healthcheck")] == [
        "Access denied"
    ] * 2 + ["OK"]
    columns = re.findall(r"<th[^>]*>\s*([A-Za-z]+)", _page(port, "tasks", login))
    assert columns == ["Name", "kwargs", "State", "Received", "Runtime", "Worker"], (
        "flowerconfig.py is read"
    )
    assert worker.stop(timeout=20) == 0
    assert "Traceback" not in worker.log.read_text(encoding="utf-8")


def test_they_work_over_tls_as_it_is_documented_and_trust_no_stranger(
    stack: Stack, started: list[Process], tmp_path: Path
) -> None:
    with tls_front(tmp_path, stack.redis.port) as front:
        stack.settings["REDIS_URL"] = f"rediss://localhost:{front.port}/0"
        stranger = _start(stack, started, "stranger", "worker", "--hostname", "stranger@%h")
        wait_until(
            lambda: "certificate verify failed" in stranger.log.read_text(encoding="utf-8"),
            timeout=60,
            message="the worker to refuse a server that it does not trust",
        )
        assert front.accepted == 0
        stranger.stop()
        stack.settings["SSL_CERT_FILE"] = str(front.authority)
        _start(stack, started, "worker", "worker")
        _start(stack, started, "beat", "beat")
        port = free_port()
        _start(stack, started, "flower", "flower", "--address=127.0.0.1", f"--port={port}")
        stack.start_generator(10)
        wait_until(lambda: _accepted(stack) == 10, timeout=60, message="10 rows at the partner")
        wait_until(
            lambda: "deliver" in _page(port, "broker"),
            timeout=60,
            message="Flower to show the queues",
        )
        for process in reversed(started):
            process.stop()
