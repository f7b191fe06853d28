"""The benchmark gives processes the cores that it says, and takes nothing that stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cores import can_limit, cores, limited, pin_apart


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def test_each_worker_has_a_core_and_the_servers_what_is_left(sleeper: int) -> None:
    pin_apart([sleeper], {})
    assert os.sched_getaffinity(sleeper) == {cores()[0]}
    pin_apart([], {"ledger": [sleeper]})
    assert os.sched_getaffinity(sleeper) == set(cores()[2:] or cores())


@pytest.mark.skipif(not can_limit(), reason="a control group takes Linux and root")
def test_a_part_of_a_core_is_given_and_taken_back(sleeper: int) -> None:
    def groups() -> str:
        return Path(f"/proc/{sleeper}/cgroup").read_text()

    before = groups()
    with limited([sleeper], 0.25):
        assert "rowrelay-bench-" in groups()
    assert groups() == before
