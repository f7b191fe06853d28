"""SQL Server's dates and times in positions: text on the way, made and read by the server, so that
no digit is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func
from sqlalchemy.dialects import mssql
from sqlalchemy.sql import literal_column
from sqlalchemy.types import Date, DateTime, Time, TypeEngine

from app.source.position_codec import Codec, Expression, PartValue, bare, unquoted
from app.source.table import Column

STYLE: Expression = literal_column("121")
"""`yyyy-mm-dd hh:mi:ss.nnnnnnn`, whatever the session's language (Microsoft Learn: CAST and
CONVERT).
"""
_SHOWN_AS: Expression = literal_column("VARCHAR(40)")
"""A datetimeoffset(7) has 34 characters."""
_FINEST = 7
_DATETIME_DIGITS = 3
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?)?( ?[+-]\d\d:\d\d)?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """How a type of dates and times is written in a statement."""

    name: str
    rounding_ms: int
    """The most that it rounds a moment by. The coarsest precision is assumed where a column may
    have any.
    """
    precise: bool = False
    """Its precision is declared."""


_MOMENTS: Mapping[type[TypeEngine[Any]], Moment] = {
    mssql.DATETIMEOFFSET: Moment("DATETIMEOFFSET", 1000, precise=True),
    mssql.DATETIME2: Moment("DATETIME2", 1000, precise=True),
    mssql.SMALLDATETIME: Moment("SMALLDATETIME", 60_000),
    DateTime: Moment("DATETIME", 4),
    Date: Moment("DATE", 0),
    Time: Moment("TIME", 0, precise=True),
}


def moment_of(column_type: TypeEngine[Any]) -> Moment | None:
    """How the type is written, where it is one of dates and times."""
    found = next((found for kind, found in _MOMENTS.items() if isinstance(column_type, kind)), None)
    if found is None or not found.precise:
        return found
    digits = getattr(column_type, "precision", None)
    return Moment(
        f"{found.name}({_FINEST if digits is None else digits})", found.rounding_ms, precise=True
    )


class MomentCodec(Codec):
    """A column of dates or times."""

    def __init__(self, column: Column, moment: Moment) -> None:
        super().__init__(column)
        self._moment = moment
        self._digits: int | None = (
            getattr(column.type, "precision", None) if moment.precise else None
        )

    def shown(self, column: Expression) -> Expression | None:
        return func.CONVERT(_SHOWN_AS, column, STYLE)

    def place(self, value: object) -> PartValue:
        """With all digits that are declared. A server may leave out those that are 0, as Babelfish
        does, and fewer are taken for a former type's: the order would be entered lower for each
        page, and reading never end.
        """
        shown = super().place(value)
        if not isinstance(shown, str) or not self._digits:
            return shown
        found = _MOMENT.fullmatch(shown)
        if found is None or found[4] is None:
            return shown
        end = found.end(4)
        return shown[:end] + "0" * (self._digits - len(found[4])) + shown[end:]

    def bind(self, parameter: str, place: PartValue) -> Expression:
        plain: Expression = bare(parameter, place)
        if self._moment.name in ("DATETIME", "SMALLDATETIME"):
            plain = func.CONVERT(literal_column("DATETIME2(3)"), plain, STYLE)
            return func.CONVERT(literal_column(self._moment.name), plain)
        return func.CONVERT(literal_column(self._moment.name), plain, STYLE)

    def read(self, text: str) -> PartValue:
        return unquoted(text).replace("T", " ", 1)

    def fits(self, place: PartValue) -> bool:
        if place is None or isinstance(self.type, Time):
            return True
        found = _MOMENT.fullmatch(place) if isinstance(place, str) else None
        if found is None:
            return False
        _, minutes, seconds, fraction, offset = found.groups()
        if isinstance(self.type, Date) or minutes is None:
            return isinstance(self.type, Date) and minutes is None
        if offset and not isinstance(self.type, mssql.DATETIMEOFFSET):
            return False
        if isinstance(self.type, mssql.SMALLDATETIME):
            return not (seconds or "").strip("0") and not (fraction or "").strip("0")
        return self._holds(len(fraction or ""))

    def _holds(self, digits: int) -> bool:
        """Whether so many digits come back as they were. Three, in a column that has more, may be
        of a datetime that became a datetime2: that gives it digits which it did not show."""
        if not self._moment.precise:
            return digits <= _DATETIME_DIGITS
        return self._digits is None or (
            digits <= self._digits and not (digits == _DATETIME_DIGITS < self._digits)
        )

    def lowered(self, place: PartValue) -> PartValue:
        """A minute earlier, or a day where only one is known: more than any change of the type
        rounds by.
        """
        found = _MOMENT.fullmatch(place) if isinstance(place, str) else None
        if found is None:
            raise ValueError("it is no moment")
        day, minutes, seconds, _, offset = found.groups()
        if offset and not isinstance(self.type, mssql.DATETIMEOFFSET):
            raise ValueError(f"it has an offset, and the column's type is now {self._moment.name}")
        by = (
            timedelta(days=1)
            if minutes is None or isinstance(self.type, Date)
            else timedelta(minutes=1)
        )
        moment = datetime.fromisoformat(f"{day} {minutes or '00:00'}:{seconds or '00'}")
        lowest = datetime.fromisoformat(lowest_moment(self.type))
        if moment - lowest <= by:
            return lowest.isoformat(" ", "seconds")
        return (moment - by).isoformat(" ", "seconds") + (offset or "")


def lowest_moment(column_type: TypeEngine[Any]) -> str:
    """The lowest moment that a column of the type can hold."""
    if isinstance(column_type, mssql.SMALLDATETIME):
        return "1900-01-01 00:00:00"
    wide = isinstance(column_type, (mssql.DATETIME2, mssql.DATETIMEOFFSET, Date))
    return "0001-01-01 00:00:00" if wide else "1753-01-01 00:00:00"
