"""Exponential backoff: how a wait grows with each try. What is left to chance, each caller adds."""

from __future__ import annotations

from datetime import timedelta

_MOST_DOUBLINGS = 64
"""More would leave the range of numbers; every cap is reached before."""


def doubled(first: timedelta, times: int, longest: timedelta) -> timedelta:
    """`first`, doubled so many times (below 0 counts as 0), but no more than `longest`."""
    seconds = first.total_seconds() * 2.0 ** min(max(times, 0), _MOST_DOUBLINGS)
    return timedelta(seconds=min(seconds, longest.total_seconds()))
