"""What processes use: CPU time and memory, of each with its children."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psutil


def family(roots: Iterable[int]) -> list[psutil.Process]:
    """The processes with these ids that live, and what they have started."""
    found = []
    for root in roots:
        try:
            parent = psutil.Process(root)
            found += [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """Seconds of CPU that these processes and their children have used, in user and system mode, to
    10 ms a process.
    """
    total = 0.0
    for process in family(roots):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_mib(roots: Iterable[int]) -> float:
    """Resident memory. Pages that processes share count in each of them."""
    total = 0
    for process in family(roots):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


@dataclass
class Meter:
    """CPU time used since it was made, by group of processes, and the peak memory of one group."""

    groups: Mapping[str, Iterable[int]]
    """Name → process ids."""
    peak_mib: float = 0.0
    _before: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = {name: cpu_s(roots) for name, roots in self.groups.items()}

    def look(self, name: str) -> None:
        """Note how much memory the group has now."""
        self.peak_mib = max(self.peak_mib, memory_mib(self.groups[name]))

    def used_s(self) -> dict[str, float]:
        """Name → seconds of CPU since the start."""
        return {name: cpu_s(roots) - self._before[name] for name, roots in self.groups.items()}
