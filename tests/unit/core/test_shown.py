"""What others wrote acts on no terminal, whatever it is, and stays readable."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli import tables
from app.cli.tables import print_fields, print_figures, print_table
from app.cli.terminal import PlainConsole, print_json
from app.core.shown import one_line, plain, plain_json, plain_lines

HOSTILE = "[bold red]x[/nope] \x1b[31mRED\x1b]0;title\x07 \x9b31m \u202eRTL :smile: [link=https://evil.example]click[/link]"
ACTING = ("\x1b", "\x07", "\x9b", "\u202e")

any_text = st.text(st.characters(codec=None), max_size=50)


@given(any_text)
def test_nothing_is_left_that_acts_or_cannot_be_seen(text: str) -> None:
    assert not {category(letter) for letter in plain(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(any_text, st.none() | st.integers(0, 20))
def test_what_an_error_says_is_one_printable_line_of_single_blanks(
    text: str, limit: int | None
) -> None:
    said = one_line(ValueError(text), limit)
    assert said.isprintable()
    assert "  " not in said
    assert limit is None or len(said) <= limit


def test_the_words_of_an_error_are_kept() -> None:
    assert one_line("no such\n\tcolumn:\x1b 'zoë'", 100) == "no such column: 'zoë'"


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=50))
def test_text_of_any_script_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(st.recursive(st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)))
def test_a_document_means_the_same_and_acts_no_more(value: object) -> None:
    shown = plain_json(json.dumps(value, ensure_ascii=False, indent=2))

    assert json.loads(shown) == value
    assert not {category(letter) for letter in shown.replace("\n", "")} & {
        "Cc",
        "Cf",
        "Cs",
        "Zl",
        "Zp",
    }


def test_lines_stay_lines_where_they_are_ours() -> None:
    assert plain_lines("one\ntwo\x1b") == "one\ntwo\\x1b"
    assert plain("one\ntwo") == "one\\ntwo"


@pytest.mark.parametrize("width", ["30", "80", "400"])
def test_markup_and_escapes_in_a_cell_are_shown_not_obeyed(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    console = PlainConsole()
    monkeypatch.setattr(tables, "console", console)

    print_table(HOSTILE, ["id", "last"], [[HOSTILE, "one\ntwo"]])
    print_fields({"reason": HOSTILE})
    console.print(HOSTILE)
    print_json({HOSTILE: HOSTILE})

    printed = capsys.readouterr().out
    assert not [letter for letter in ACTING if letter in printed]
    assert "[bold red]x[/nope]" in printed
    assert ":smile:" in printed


def test_a_table_cuts_its_widest_cells_at_the_terminal_s_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(tables, "console", PlainConsole())

    print_table("Deliveries", ["id", "last"], [["orders:1", "a reason that goes on " * 20]])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("orders:1" in line and "a reason" in line and "…" in line for line in lines)


def test_a_table_in_a_pipe_is_cut_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(tables, "console", PlainConsole())
    reason = "a reason that goes on " * 20

    print_table("Deliveries", ["id", "last"], [["orders:1", reason + "to its end"]])

    assert f"{reason}to its end" in capsys.readouterr().out


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the terminal as wide as that."""

    def make(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(tables, "console", PlainConsole())

    return make


def test_a_table_stays_one_and_says_which_columns_it_has_no_room_for(
    wide: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    wide(40)
    columns = [f"column {number}" for number in range(12)]

    assert not print_table(
        "Feeds", columns, [[f"value {row}{number:0>3}" for number in range(12)] for row in range(3)]
    )

    _, header, _, *rows, without = capsys.readouterr().out.splitlines()
    assert len(rows) == 3
    assert all(len(line) <= 40 for line in (header, *rows))
    shown = [column for column in columns if f"{column} " in f"{header} "]
    assert shown[0] == "column 0"
    assert (
        without == f"no room for: {', '.join(column for column in columns if column not in shown)}"
    )


def test_spare_columns_go_first_and_then_the_widest_is_cut(
    wide: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    columns, row = (
        ["feed", "state", "sent", "open", "error"],
        ["orders", "cooldown until 12", 1200, 12, "bad " * 30],
    )
    found = {}
    for width in (200, 60, 40):
        wide(width)
        whole = print_table("Feeds", columns, [row], spare=["open", "sent"])
        _, header, _, line, *rest = capsys.readouterr().out.splitlines()
        found[width] = (whole, header.split(), rest)
        assert len(line) <= width
        assert "cooldown until 12" in line, "only the widest is cut"
    assert found == {
        200: (True, columns, []),
        60: (False, columns, []),
        40: (False, ["feed", "state", "error"], ["no room for: sent, open"]),
    }


def test_what_must_be_whole_is_not_cut_and_spare_columns_make_room_for_it(
    wide: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    wide(60)
    columns = ["feed", "state", *(f"spare {number}" for number in range(9)), "error"]

    print_table(
        "Feeds",
        columns,
        [["orders", "breaker until 12:00:00", *range(9), "no answer"]],
        spare=columns[2:-1],
        whole=2,
    )

    _, header, _, line, _ = capsys.readouterr().out.splitlines()
    assert line.startswith("orders  breaker until 12:00:00  ")
    assert line.rstrip().endswith("no answer")
    assert len(header) <= 60


def test_figures_keep_their_names_however_narrow_the_terminal(
    wide: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    wide(50)

    print_figures(
        "Report", {"rows read": "1,234", "statuses": "200: 1,234, 503: 12, " * 5 + "none"}
    )

    title, first, second, *more = capsys.readouterr().out.splitlines()
    assert title == "Report"
    assert first.split() == ["rows", "read", "1,234"]
    assert second.startswith("statuses")
    assert all(len(line) <= 50 for line in (second, *more))
    assert " ".join(" ".join([second.removeprefix("statuses"), *more]).split()).endswith(
        "503: 12, none"
    )


def test_a_table_on_standard_error_is_no_different() -> None:
    shown = io.StringIO()
    console = PlainConsole(stderr=True)
    console.file = shown

    console.print(HOSTILE)

    assert not [letter for letter in ACTING if letter in shown.getvalue()]


def test_columns_are_those_of_the_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(tables, "console", PlainConsole())
    monkeypatch.setenv("COLUMNS", "400")

    print_table(
        "Deliveries", ["id", "last"], [["orders:1", "a reason of more than thirty letters"]]
    )

    assert "a reason of more than thirty letters" in capsys.readouterr().out
