"""What every cursor strategy says of itself before a database is asked. `feeds.toml` and the use
cases read no more.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from app.feeds.schema import Frozen

GAP_TIMEOUT = timedelta(minutes=10)


def _moment_text(value: object) -> object:
    """TOML's own dates and times, as the text that a position is."""
    return (
        value.isoformat(" ")
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, date)
        else value
    )


class CursorSpec(Frozen):
    """Where reading starts and how it goes on."""

    strategy: str
    start: Annotated[int | str, BeforeValidator(_moment_text)] = "beginning"
    """`beginning`, `now`, or a position in the strategy's own form."""

    position_form: ClassVar[str]
    """What a position is, in a few words: "an id"."""
    unseen_updates: ClassVar[str | None] = None
    """Why an update of a row is not seen; `None`: it is, and gives the row a new place in the
    order.
    """
    unreconciled: ClassVar[str | None] = None
    """Why source and ledger cannot be compared; `None`: they can."""

    @property
    def order(self) -> str:
        """What rows are ordered by: the cursor column."""
        raise NotImplementedError

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The columns of the table that it names."""
        return ()

    @property
    def settles_in(self) -> timedelta:
        """For how long rows are left for later, in which their order may still change."""
        return timedelta()

    @property
    def gap_age_limit(self) -> timedelta:
        """How long a row that is missing from the order is waited for."""
        return GAP_TIMEOUT

    def unfit(self, *, capture: str, key: Collection[str], tested: Collection[str]) -> str | None:
        """Why the rest of the feed does not go with it; `None`: it does. `tested`: the columns that
        `where` and `filter` name.
        """
        del capture, key, tested
        return None

    @classmethod
    def parse_position(cls, value: int | str) -> int | str:
        """An operator's position in the form that the strategy keeps. Raises `ValueError` that says
        which form.
        """
        raise NotImplementedError

    @model_validator(mode="after")
    def _start_is_a_position(self) -> CursorSpec:
        if self.start not in ("beginning", "now"):
            self.parse_position(self.start)
        return self


class ColumnCursor(CursorSpec):
    """A strategy that orders rows by a column of the table."""

    column: str = Field(min_length=1)

    @property
    def order(self) -> str:
        return self.column

    @property
    def named_columns(self) -> tuple[str, ...]:
        return (self.column,)
