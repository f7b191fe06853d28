"""The order in which a few processes of pytest-xdist take the tests.

Each is given one run of neighbours, and takes half of what another has left once it is done. So what takes long
stands where a process begins, and the end of the run is made of what takes no time. Two processes begin with whole
systems, which wait for much and leave the processor to the others. Another begins with the browser, whose tests
then share one console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

Test = TypeVar("Test")

SYSTEMS, BROWSER = "acceptance", "browser"
BEGIN_WITH_SYSTEMS = 2


def in_order(
    tests: Sequence[Test], processes: int, path: Callable[[Test], tuple[str, ...]]
) -> list[Test]:
    """The tests in the order for so many processes. `path`: of a test's file, from the directory of all
    tests. Neighbours of one file stay neighbours.
    """
    if processes <= BEGIN_WITH_SYSTEMS:
        return list(tests)
    heads: list[list[Test]] = [[] for _ in range(processes)]
    systems = [test for test in tests if path(test)[:1] == (SYSTEMS,)]
    for number, (_, of_file) in enumerate(groupby(systems, path)):
        heads[number % BEGIN_WITH_SYSTEMS].extend(of_file)
    heads[BEGIN_WITH_SYSTEMS] = [test for test in tests if path(test)[:1] == (BROWSER,)]
    others = iter([test for test in tests if path(test)[:1] not in ((SYSTEMS,), (BROWSER,))])
    ordered: list[Test] = []
    for head, size in zip(heads, _sizes(len(tests), processes), strict=True):
        ordered += head
        ordered += islice(others, max(0, size - len(head)))
    return [*ordered, *others]


def _sizes(tests: int, processes: int) -> Iterator[int]:
    """How many each is given at the start (`WorkStealingScheduling.check_schedule`)."""
    for left in range(processes, 0, -1):
        size = tests // left
        tests -= size
        yield size
