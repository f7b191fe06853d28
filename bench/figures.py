"""What the rounds of one contestant came to: medians, and how they are told."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.report import spread, whole
from bench.rounds import Figures


def good(figures: Sequence[Figures]) -> list[Figures]:
    """The rounds, where none failed: a contestant that loses rows now and then has no figure."""
    return [] if any(one.wrong for one in figures) else list(figures)


def median(figures: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    return statistics.median([value(one) for one in good(figures)] or [0.0])


def cell(figures: Sequence[Figures], value: Callable[[Figures], float]) -> str:
    return (
        "failed"
        if figures and not good(figures)
        else spread([value(one) for one in good(figures)], whole)
    )


def plain(figures: Sequence[Figures], value: Callable[[Figures], float], form: str = ",.0f") -> str:
    """A median alone, where the spread would crowd the table."""
    return format(median(figures, value), form) if good(figures) else "–"


def cpu(*groups: str) -> Callable[[Figures], float]:
    return lambda one: sum(one.cpu_us.get(group, 0.0) for group in groups)
