"""What others wrote acts on no terminal, whatever it is, and stays readable."""

from __future__ import annotations

import io
import json
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli import output
from app.cli.output import PlainConsole, print_fields, print_json, print_table
from app.shown import plain, plain_json, plain_lines

HOSTILE = (
    "[bold red]x[/nope] \x1b[31mRED\x1b]0;title\x07 \x9b31m \u202eRTL :smile: [link=https://evil.example]click[/link]"
)
ACTING = ("\x1b", "\x07", "\x9b", "\u202e")

any_text = st.text(st.characters(codec=None), max_size=50)


@given(any_text)
def test_nothing_is_left_that_acts_or_cannot_be_seen(text: str) -> None:
    assert not {category(letter) for letter in plain(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=50))
def test_text_of_any_script_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(st.recursive(st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)))
def test_a_document_means_the_same_and_acts_no_more(value: object) -> None:
    shown = plain_json(json.dumps(value, ensure_ascii=False, indent=2))

    assert json.loads(shown) == value
    assert not {category(letter) for letter in shown.replace("\n", "")} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_lines_stay_lines_where_they_are_ours() -> None:
    assert plain_lines("one\ntwo\x1b") == "one\ntwo\\x1b"
    assert plain("one\ntwo") == "one\\ntwo"


@pytest.mark.parametrize("width", ["30", "80", "400"])
def test_markup_and_escapes_in_a_cell_are_shown_not_obeyed(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(output, "console", PlainConsole())

    print_table(HOSTILE, ["id", "last"], [[HOSTILE, "one\ntwo"]])
    print_fields({"reason": HOSTILE})
    output.console.print(HOSTILE)
    print_json({HOSTILE: HOSTILE})

    printed = capsys.readouterr().out
    assert not [letter for letter in ACTING if letter in printed]
    assert "[bold red]x[/nope]" in printed
    assert ":smile:" in printed


def test_a_table_cuts_its_widest_cells_at_the_terminal_s_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(output, "console", PlainConsole())

    print_table("Deliveries", ["id", "last"], [["orders:1", "a reason that goes on " * 20]])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("orders:1" in line and "a reason" in line and "…" in line for line in lines)


def test_a_table_in_a_pipe_is_cut_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(output, "console", PlainConsole())
    reason = "a reason that goes on " * 20

    print_table("Deliveries", ["id", "last"], [["orders:1", reason + "to its end"]])

    assert f"{reason}to its end" in capsys.readouterr().out


def test_a_table_without_room_for_its_columns_is_told_a_record_at_a_time_with_every_label(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(output, "console", PlainConsole())
    columns = [f"column {number}" for number in range(12)]

    print_table("Feeds", columns, [["some value"] * 12])

    printed = capsys.readouterr().out
    assert all(f"{column} " in printed for column in columns)


def test_a_table_on_standard_error_is_no_different() -> None:
    shown = io.StringIO()
    console = PlainConsole(stderr=True)
    console.file = shown

    console.print(HOSTILE)

    assert not [letter for letter in ACTING if letter in shown.getvalue()]


def test_columns_are_those_of_the_moment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(output, "console", PlainConsole())
    monkeypatch.setenv("COLUMNS", "400")

    print_table("Deliveries", ["id", "last"], [["orders:1", "a reason of more than thirty letters"]])

    assert "a reason of more than thirty letters" in capsys.readouterr().out
