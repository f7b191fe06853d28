"""Cutting what there is into parts that are bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_parts(items: Iterable[T], most: int, *bounds: tuple[Callable[[T], int], int]) -> Iterator[list[T]]:
    """The items in parts of at most `most`. A bound is what an item counts, and the limit for a part: one that is above
    it holds a single item.
    """
    part: list[T] = []
    sums = [0] * len(bounds)
    for item in items:
        counted = [count(item) for count, _ in bounds]
        full = any(held + more > limit for held, more, (_, limit) in zip(sums, counted, bounds, strict=True))
        if part and (full or len(part) == most):
            yield part
            part, sums = [], [0] * len(bounds)
        part.append(item)
        sums = [held + more for held, more in zip(sums, counted, strict=True)]
    if part:
        yield part
