"""Cores given to processes: pinned to some, or to a part of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bench.usage import family

_V2, _V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 10_000
MOST_WORKERS = 2
"""So many cores are kept for workers, also where only one runs."""


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


def pin(pids: Sequence[int], to: Sequence[int]) -> None:
    """Let these processes, their threads and their children run on these cores alone."""
    for process in family(pids):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, to)


def pin_apart(workers: Sequence[int], servers: Mapping[str, Sequence[int]]) -> None:
    """Give each worker a core of its own, and the servers those that no worker has; all, where there
    are too few for that.
    """
    there = cores()
    for place, worker in enumerate(workers):
        pin([worker], [there[place % len(there)]])
    for pids in servers.values():
        pin(pids, there[MOST_WORKERS:] or there)


def can_limit() -> bool:
    """Whether a process can be given a part of a core: Linux, as root."""
    return _parent() is not None


@contextmanager
def limited(pids: Sequence[int], part: float) -> Iterator[None]:
    """Give each of these processes, with its threads, this part of a core in every 10 ms."""
    with ExitStack() as groups:
        for pid in pids:
            group = groups.enter_context(_group(part))
            (group / "cgroup.procs").write_text(str(pid))
        yield


@contextmanager
def _group(part: float) -> Iterator[Path]:
    """A control group with this part of a core. Whoever is in it when it ends goes back."""
    parent = _parent()
    assert parent is not None
    group = parent / f"rowrelay-bench-{secrets.token_hex(4)}"
    group.mkdir()
    try:
        quota = round(part * _PERIOD_US)
        if parent == _V2:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            if psutil.pid_exists(int(pid)):
                (parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def _parent() -> Path | None:
    """Where a group with a limit can be made."""
    controllers = _V2 / "cgroup.controllers"
    if controllers.exists():
        found = "cpu" in controllers.read_text().split()
        return _V2 if found and os.access(_V2, os.W_OK) else None
    return _V1 if (_V1 / "cpu.cfs_quota_us").exists() and os.access(_V1, os.W_OK) else None
