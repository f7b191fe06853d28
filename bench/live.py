"""The latency of live rows, before, while and after something else goes on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def latencies(delivered: Iterable[Mapping[str, Any]]) -> list[float]:
    """Milliseconds from logged to delivered, of each delivery."""
    return [(one["finished_at"] - one["created_at"]).total_seconds() * 1000 for one in delivered]


def print_parts(
    before: Sequence[float], name: str, meanwhile: Sequence[float], after: Sequence[float]
) -> None:
    """Print a line for each part, and how it grew meanwhile (`name`) against the two quiet parts
    together.
    """
    print(f"{'part':<8}{'live rows':>10}{'p50 ms':>9}{'p95 ms':>9}")
    for part, found in (("before", before), (name, meanwhile), ("after", after)):
        p50, p95 = _percentiles(found)
        print(f"{part:<8}{len(found):>10,}{p50:>9.0f}{p95:>9.0f}")
    quiet, busy = _percentiles([*before, *after]), _percentiles(meanwhile)
    print(f"ratio: p50 × {busy[0] / quiet[0]:.2f}, p95 × {busy[1] / quiet[1]:.2f}")


def _percentiles(found: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(found, n=20)
    return statistics.median(found), cuts[18]
