"""CSV that a spreadsheet opens without computing anything.

A cell that begins with a sign of a formula gets an apostrophe before it, which spreadsheets take for
"this is text" (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

BOM = "\ufeff"
"""At the beginning of a file: else some spreadsheets do not read UTF-8."""
_SIGNS = tuple("=+-@＝＋－＠")
_CONTROLS = ("\t", "\r", "\n")


def safe_cell(value: object) -> object:
    """The value as a cell; a text that could be a formula as text."""
    if not isinstance(value, str):
        return value
    risky = value.startswith(_CONTROLS) or value.lstrip().startswith(_SIGNS)
    return f"'{value}" if risky else value


def csv_line(values: Iterable[object]) -> str:
    """A line of those cells, with its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([safe_cell(value) for value in values])
    return text.getvalue()
