"""`celery -A celery_app worker`, `… beat` and `… flower` work as they are, from the project's root."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.embedded.process import Process
from app.embedded.server import free_port
from app.embedded.stack import ROOT, Stack
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
    process = Process(name, argv, env=stack.environment, cwd=ROOT, log=stack.directory / f"{name}.log").start()
    started.append(process)
    return process


def test_worker_beat_and_flower_run_from_the_projects_root(stack: Stack, started: list[Process]) -> None:
    worker = _start(stack, started, "worker", "worker")
    _start(stack, started, "beat", "beat")
    port = free_port()
    _start(stack, started, "flower", "flower", "--address=127.0.0.1", f"--port={port}")
    stack.start_generator(10)

    def page() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/workers", trust_env=False).text
        except httpx.TransportError:
            return ""

    def accepted() -> bool:
        with stack.partner() as partner:
            return bool(partner.get("/_simulator/counts").json()["unique"] == 10)

    wait_until(accepted, timeout=60, message="10 rows at the partner")
    wait_until(lambda: "celery@" in page(), timeout=60, message="Flower to show the worker")
    assert worker.stop(timeout=20) == 0
    assert "Traceback" not in worker.log.read_text(encoding="utf-8")
