"""The cursor strategies, as an operator writes them in `feeds.toml`: a file and a line each.

What a strategy asks of a database is its file in `app/source/cursors/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, get_args

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from app.feeds.cursors.change_tracking import ChangeTrackingCursor
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.cursors.rowversion import RowversionCursor
from app.feeds.cursors.spec import ColumnCursor, CursorSpec
from app.feeds.cursors.timestamp import TimestampCursor
from app.feeds.schema import Frozen

Cursor: TypeAlias = (
    RowversionCursor
    | IdentityCursor
    | TimestampCursor
    | ChangeTrackingCursor
)  # fmt: skip

SPECS: Mapping[str, type[CursorSpec]] = {
    spec.model_fields["strategy"].default: spec for spec in get_args(Cursor)
}
"""Strategy → its schema."""
POSITION_FORMS = " or ".join(
    ", ".join(spec.position_form for spec in SPECS.values()).rsplit(", ", 1)
)
"""What an operator may give as a position: "0x…, an id or a moment"."""
_OPTIONS = {
    name for spec in SPECS.values() if issubclass(spec, ColumnCursor) for name in spec.model_fields
}


class _UnknownStrategy(Frozen):
    """What a cursor of no known strategy is checked against, so that the error stands at
    `strategy`.
    """

    strategy: str

    @field_validator("strategy", mode="before")
    @classmethod
    def _is_none_of(cls, value: object) -> object:
        del value
        known = " or ".join(", ".join(map(repr, SPECS)).rsplit(", ", 1))
        raise PydanticCustomError("literal_error", "not one of {expected}", {"expected": known})


def spec_of(value: object) -> object:
    """The schema of the strategy that a table of `feeds.toml` names, filled from it. Anything else
    as it is.

    Strategies that go by a column take each other's options, which say nothing there. Raises
    pydantic's `ValidationError`.
    """
    if not isinstance(value, Mapping):
        return value
    spec = SPECS.get(str(value.get("strategy")))
    if spec is None:
        return _UnknownStrategy.model_validate(
            {name: value[name] for name in value if name == "strategy"}
        )
    if not issubclass(spec, ColumnCursor):
        return spec.model_validate(value)
    return spec.model_validate({
        name: found for name, found in value.items() if name in spec.model_fields or name not in _OPTIONS
    })  # fmt: skip
