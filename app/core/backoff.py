"""Exponential backoff: how a wait grows with each try. What is left to chance, each caller adds."""

from __future__ import annotations

_MOST_DOUBLINGS = 64
"""More would leave the range of numbers; every cap is reached before."""


def doubled(first: float, times: int, longest: float) -> float:
    """`first`, doubled so many times (below 0 counts as 0), but no more than `longest`. All in one unit."""
    return min(first * 2.0 ** min(max(times, 0), _MOST_DOUBLINGS), longest)
