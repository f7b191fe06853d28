"""Which rows a feed sends: its `filter`, looked at when a row is logged, so that what is left out
is on record too.

`where` leaves rows out in the source, and nothing is known of them; `filter` logs them as skipped,
with the reason. A NULL meets no condition but `is null`, as in SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from app.core.rows import SourceRow
from app.core.spelling import alike
from app.feeds.feed import Condition, Value

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda cell, value: cell == value,
    "!=": lambda cell, value: cell != value,
    "<": lambda cell, value: cell < value,
    "<=": lambda cell, value: cell <= value,
    ">": lambda cell, value: cell > value,
    ">=": lambda cell, value: cell >= value,
}


@dataclass(slots=True)
class Sifted:
    """Rows of a page, by what becomes of them; each in its order."""

    sent: list[SourceRow] = field(default_factory=list)
    skipped: list[tuple[SourceRow, str]] = field(default_factory=list)
    """Rows that the filter leaves out, with the reason."""
    unreadable: list[SourceRow] = field(default_factory=list)
    """Rows with an `error`: from the source, or from the filter."""


def sift(conditions: Sequence[Condition], rows: Sequence[SourceRow]) -> Sifted:
    """Tell the rows apart. Without conditions every row that has a payload is sent."""
    sifted = Sifted()
    for row in rows:
        if row.error is not None:
            sifted.unreadable.append(row)
        elif not conditions:
            sifted.sent.append(row)
        else:
            _sift_row(conditions, row, sifted)
    return sifted


def _sift_row(conditions: Sequence[Condition], row: SourceRow, sifted: Sifted) -> None:
    try:
        reason = skip_reason(conditions, json.loads(row.payload))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        sifted.unreadable.append(replace(row, error=f"filter: {error}"))
        return
    if reason is None:
        sifted.sent.append(row)
    else:
        sifted.skipped.append((row, reason))


def skip_reason(conditions: Sequence[Condition], row: Mapping[str, Any]) -> str | None:
    """The first condition that the row does not meet, in words; `None` where it meets all.

    Raises `LookupError` for a column that the row does not have, `TypeError` or `ValueError` for a
    value that cannot be compared.
    """
    for condition in conditions:
        cell = _cell(row, condition.column)
        if not _meets(cell, condition):
            return f"filter: {_worded(condition)}"
    return None


def _cell(row: Mapping[str, Any], column: str) -> Any:
    found = [column] if column in row else alike(column, row)
    if len(found) != 1:
        raise LookupError(f"the row has no column {column!r}; it has {', '.join(row)}")
    return row[found[0]]


def _meets(cell: Any, condition: Condition) -> bool:
    if condition.op in ("is null", "is not null"):
        return (cell is None) is (condition.op == "is null")
    if cell is None:
        return False
    if condition.op == "like":
        return _like(str(condition.value)).fullmatch(str(cell)) is not None
    if condition.op in ("in", "not in"):
        found = any(_as(cell, value, condition) == _plain(value) for value in condition.values)
        return found is (condition.op == "in")
    value = condition.values[0]
    return _COMPARISONS[condition.op](_as(cell, value, condition), _plain(value))


def _as(cell: Any, value: Value, condition: Condition) -> Any:
    """The row's value in the kind of the condition's, since JSON holds decimals and moments as
    text.
    """
    try:
        if isinstance(value, bool):
            return cell
        if isinstance(value, (int, float)):
            return Decimal(str(cell))
        if isinstance(value, date):
            return datetime.fromisoformat(cell)
        return time.fromisoformat(cell) if isinstance(value, time) else str(cell)
    except (TypeError, ValueError, InvalidOperation):
        kind = "number" if isinstance(value, (int, float)) else type(value).__name__
        raise ValueError(f"column {condition.column!r} holds no {kind} to compare with") from None


def _plain(value: Value) -> Any:
    """The condition's value in the form that `_as` gives."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Decimal(str(value))
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def _like(pattern: str) -> re.Pattern[str]:
    """SQL's `%` and `_`, regardless of case."""
    parts = (".*" if sign == "%" else "." if sign == "_" else re.escape(sign) for sign in pattern)
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _worded(condition: Condition) -> str:
    """The condition that does not hold, without the row's value: reasons are listed, and values may
    be personal.
    """
    wanted = ", ".join(str(value) for value in condition.values)
    return f"not {condition.column} {condition.op} {wanted}".rstrip()
