"""Cuts items into parts that are bounded in number, and in whatever else counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Bound: TypeAlias = tuple[Callable[[T], int], int]
"""What an item counts, and the most that a part may hold of it."""


def in_parts(items: Iterable[T], most: int, *bounds: Bound[T]) -> Iterator[list[T]]:
    """The items, in order, in parts of at most `most` that keep within every bound. An item that
    exceeds a bound by itself is a part of its own.
    """
    return _within(items, most, bounds) if bounds else _by_number(items, most)


def _by_number(items: Iterable[T], most: int) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, most)):
        yield part


def _within(items: Iterable[T], most: int, bounds: tuple[Bound[T], ...]) -> Iterator[list[T]]:
    part: list[T] = []
    sums = [0] * len(bounds)
    for item in items:
        counted = [count(item) for count, _ in bounds]
        full = any(
            held + more > limit
            for held, more, (_, limit) in zip(sums, counted, bounds, strict=True)
        )
        if part and (full or len(part) == most):
            yield part
            part, sums = [], [0] * len(bounds)
        part.append(item)
        sums = [held + more for held, more in zip(sums, counted, strict=True)]
    if part:
        yield part
