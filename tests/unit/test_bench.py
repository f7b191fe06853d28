"""The benchmark tells what it measured: its tables, its place in the documentation, its arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.million import Sample, memory_slope
from bench.profile_worker import NO_PART, count, parts
from bench.report import DOCUMENT, spread, table, whole, write_section


def test_a_table_is_markdown_that_reads_well_as_it_is() -> None:
    assert table(("name", "rows/s"), [["one", "1,000"], ["another", "9"]]).splitlines() == [
        "| name    | rows/s |",
        "| ------- | -----: |",
        "| one     |  1,000 |",
        "| another |      9 |",
    ]


def test_a_figure_carries_its_spread_but_for_a_single_round() -> None:
    assert spread([3000, 1000, 2000], whole) == "2,000 (1,000–3,000)"
    assert spread([1000], whole) == "1,000"
    assert spread([], whole) == "–"


def test_a_section_replaces_its_own_text_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "a\n<!-- bench: x -->\nold\n<!-- end: x -->\nb\n<!-- bench: y -->\nkept\n<!-- end: y -->\n"
    )
    write_section("x", "new\n", document)
    write_section("x", "newer\n", document)
    text = document.read_text()
    assert (
        text
        == "a\n<!-- bench: x -->\n\nnewer\n\n<!-- end: x -->\nb\n<!-- bench: y -->\nkept\n<!-- end: y -->\n"
    )
    with pytest.raises(ValueError, match="no markers"):
        write_section("z", "new\n", document)


@pytest.mark.parametrize(
    "mode", ["compare", "slow", "two", "latency", "million", "ledger-size", "capacity"]
)
def test_the_documentation_has_a_place_for_every_mode(mode: str) -> None:
    assert f"<!-- bench: {mode} -->\n" in DOCUMENT.read_text(encoding="utf-8")


def test_the_memory_slope_leaves_the_first_tenth_out() -> None:
    start = [Sample(0, 0, 50, 0, 0), Sample(1, 50_000, 100, 0, 0)]
    flat = [Sample(n, n * 100_000, 150, 0, 0) for n in range(1, 11)]
    growing = [Sample(n, n * 100_000, 150 + 2 * n, 0, 0) for n in range(1, 11)]
    assert memory_slope([*start, *flat], 1_000_000)[0] == pytest.approx(0)
    assert memory_slope([*start, *growing], 1_000_000) == pytest.approx((2, 152, 170))


def test_a_function_that_calls_itself_is_counted_once_a_sample() -> None:
    own, below, threads = count("loop;f (a.py:1);g (a.py:2);f (a.py:9) 3\nloop;g (a.py:7) 2\n")
    assert own == {"f (a.py)": 3, "g (a.py)": 2}
    assert below == {"f (a.py)": 3, "g (a.py)": 5}
    assert threads == {"loop": 5}


def test_a_profiles_sample_belongs_to_the_part_that_asked_for_it_and_to_one_alone() -> None:
    assert parts(
        "loop;poll (app/intake/poll.py:1);log (app/intake/intake.py:2);write (pymongo/message.py:3) 4\n"
        "loop;write_in_groups (app/delivery/recording.py:1);record (app/ledger/attempts.py:2) 3\n"
        "loop;deliver (app/delivery/deliver.py:1);load (app/ledger/deliveries.py:2) 1\n"
        "loop;run (threading.py:1) 2\n"
    ) == {"log": 4, "record": 3, "claim, load, settle, a batch's own work": 1, NO_PART: 2}
