"""What the fault matrix says of its runs: nothing lost, broken or left out goes unsaid."""

from __future__ import annotations

from tests.chaos.cells import Cell
from tests.chaos.page import Run, sums
from tests.chaos.scene import Books, Scene


def act(_: Scene) -> None:
    raise AssertionError("never run here")


def books(*, rows: int, lost: int = 0, wrong: tuple[str, ...] = ()) -> Books:
    return Books(
        rows=rows, kills=1, requests=rows + 5, duplicates=5, recovery_s=0.25, wrong=wrong, lost=lost
    )


HELD = Run(Cell("redis killed", "under load", act), books(rows=22_000))
LOST = Run(
    Cell("primary frozen", "past the election", act),
    books(rows=600, lost=2, wrong=("2 rows lost: 1, 2",)),
)
ENDLESS = Run(Cell("majority lost", "60 s", act), broken="waited 120 s for recovery")
SKIPPED = Run(Cell("disk full", "of the primary", act), skipped="no mongod on the PATH")


def test_rows_of_all_runs_are_added_up() -> None:
    assert (
        sums([HELD, HELD]) == "44,000 rows in all, lost 0; 44,010 requests, 10 of them duplicates."
    )


def test_a_lost_row_is_counted_and_its_run_named() -> None:
    assert sums([HELD, LOST]).startswith("22,600 rows in all, lost 2;")
    assert sums([HELD, LOST]).endswith("BROKEN: primary-frozen/past-the-election.")
    assert not LOST.held


def test_a_run_without_books_is_broken_and_one_that_cannot_run_is_not() -> None:
    told = sums([HELD, ENDLESS, SKIPPED])
    assert told.endswith("BROKEN: majority-lost/60-s. Not run: disk-full/of-the-primary.")
    assert (HELD.held, ENDLESS.held, SKIPPED.held) == (True, False, True)


def test_a_line_of_the_table_has_eight_columns_whatever_came_of_the_run() -> None:
    lines = [run.line() for run in (HELD, LOST, ENDLESS, SKIPPED)]
    assert [line.count("|") for line in lines] == [9, 9, 9, 9]
    assert lines[0] == "| redis killed | under load | 22000 | 1 | 22005 | 5 | 0.2 s | held |"
    assert lines[3].endswith("| not run: no mongod on the PATH |")
