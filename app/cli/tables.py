"""Tables, records and figures for people, as wide as the terminal is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from app.cli.terminal import PlainConsole, console
from app.core.clock import rough, utc_now
from app.core.shown import plain

_LEAST = 8
"""Columns of text that a cut cell keeps."""
_SHORT = 24
"""Columns of text that are not cut while a longer one can be."""
_BETWEEN = 2
"""Columns of blanks between two columns of a table."""


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    spare: Sequence[str] = (),
    *,
    whole: int = 0,
) -> bool:
    """Print a table, an empty cell for `None`. Returns whether all of it could be printed: what
    must be read is for the caller to say below it where it could not.

    On a terminal that is too narrow for it the columns that are `spare` are left out, the first of
    them first, until cutting the widest column makes room; where that is not enough the others are
    cut too, and where little would be left of them the widest is left out, but never the first. Of
    the first `whole` none is cut: where that leaves the others no room, the table is printed a
    record at a time. In a file or a pipe it is as wide as it needs to be.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if not _is_bounded() or _width_of(widths) <= console.width:
        printing = console if _is_bounded() else PlainConsole(width=_width_of(widths))
        printing.print(_table(title, columns, cells))
        return True
    needed = [
        min(_LEAST, widths[place])
        for place in range(whole, len(columns))
        if columns[place] not in spare
    ]
    if whole and _width_of([*widths[:whole], *needed]) > console.width:
        _print_records(title, columns, rows)
        return True
    kept = _with_room(columns, widths, spare, whole)
    table = _table(
        title, [columns[place] for place in kept], [[row[place] for place in kept] for row in cells]
    )
    room = console.width - _width_of([*widths[:whole], 0]) if whole else console.width
    for place, column in enumerate(table.columns):
        column.width = [*widths[:whole], *_cut([widths[place] for place in kept[whole:]], room)][
            place
        ]
    console.print(table)
    if without := [name for place, name in enumerate(columns) if place not in kept]:
        console.print(f"no room for: {', '.join(without)}", style="dim", soft_wrap=True)
    return False


def _print_records(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Each row as a record of its own."""
    console.print(title, style="italic")
    for row in rows:
        print_fields(dict(zip(columns, row, strict=True)))
        console.print()


def _table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Without rules between its columns, which a narrow terminal has no room for."""
    table = Table(
        title=title, title_justify="left", show_header=any(columns), box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
        padding=(0, _BETWEEN - 1, 0, 0),
    )  # fmt: skip
    for column in columns:
        table.add_column(column, overflow="ellipsis")
    for row in cells:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def _width_of(widths: Sequence[int]) -> int:
    """Of a table with columns of these widths."""
    return sum(widths) + _BETWEEN * (len(widths) - 1)


def _with_room(
    columns: Sequence[str], widths: Sequence[int], spare: Sequence[str], whole: int
) -> list[int]:
    """The places of the columns that the terminal has room for; see `print_table`."""
    kept = list(range(len(columns)))

    def least(cut: int) -> int:
        """The width with the `cut` widest columns cut, of those that may be."""
        found = sorted((widths[place] for place in kept[whole:]), reverse=True)
        return _width_of(
            [*widths[:whole], *(min(width, _LEAST) for width in found[:cut]), *found[cut:]]
        )

    for name in spare:
        if least(1) <= console.width:
            break
        kept.remove(columns.index(name))
    last = max(1, whole)
    while len(kept) > last and least(len(kept)) > console.width:
        kept.remove(max(kept[last:], key=lambda place: (widths[place], place)))
    return kept


def _cut(widths: Sequence[int], room: int) -> list[int]:
    """How wide columns are in that room: long ones all alike, and where that is not enough, short
    ones stay whole as long as one that was long has anything left."""
    level = max(
        [
            _SHORT,
            *(level for level in range(_SHORT, room) if _width_of(_at_most(widths, level)) <= room),
        ]
    )
    found = _at_most(widths, level)
    for place in sorted(range(len(widths)), key=lambda place: (widths[place], place), reverse=True):
        found[place] -= min(max(0, _width_of(found) - room), max(0, found[place] - _LEAST))
    return found


def _at_most(widths: Sequence[int], level: int) -> list[int]:
    return [min(width, level) for width in widths]


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one record, a field a line. A terminal wraps what is longer than its lines, so that a
    command in it can be copied whole."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        console.print(f"{name:<{width}}  {_cell(value)}", soft_wrap=True)


def print_figures(title: str, fields: Mapping[str, object]) -> None:
    """Print figures, one a line under a title, each with its name. What is longer than a terminal's
    line goes on below itself, beside no name."""
    console.print(title, style="italic", soft_wrap=True)
    width = max(map(len, fields), default=0) + _BETWEEN
    room = console.width - width
    for name, value in fields.items():
        text = Text(_cell(value))
        lines = text.wrap(console, room) if _is_bounded() and room > _LEAST else [text]
        for number, line in enumerate(lines):
            console.print(f"{'' if number else name:<{width}}{line.plain.rstrip()}", soft_wrap=True)


def _cell(value: object) -> str:
    return "" if value is None else plain(str(value))


def _is_bounded() -> bool:
    """Whether the output has a width: a terminal, or what COLUMNS says."""
    return console.is_terminal or "COLUMNS" in os.environ


def ago(moment: datetime | None) -> str:
    """How long ago, to one unit: `12 s`, `3 min`, `5 h`, `2 d`; `never` for `None`."""
    return "never" if moment is None else rough(utc_now() - moment)
