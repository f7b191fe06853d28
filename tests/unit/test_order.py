"""Tests that take long are where a process begins, and none is lost."""

from __future__ import annotations

import pytest

from tests.support.order import in_order

FILES = {("acceptance", "a"): 4, ("acceptance", "b"): 4, ("browser", "c"): 3, ("unit", "d"): 29}
TESTS = [(*path, str(number)) for path, count in FILES.items() for number in range(count)]


def _ordered(processes: int) -> list[tuple[str, ...]]:
    return in_order(TESTS, processes, lambda test: test[:2])


def test_two_processes_begin_with_systems_and_one_with_the_browser() -> None:
    ordered = _ordered(4)
    starts = [[test[1] for test in ordered[start : start + 4]] for start in (0, 10, 20, 30)]
    assert starts == [["a"] * 4, ["b"] * 4, ["c"] * 3 + ["d"], ["d"] * 4]


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7, 60])
def test_each_test_is_there_once_for_any_number_of_processes(processes: int) -> None:
    ordered = _ordered(processes)
    assert sorted(ordered) == sorted(TESTS)
    assert [test for test in ordered if test[1] == "d"] == TESTS[-29:]
