"""The cursor strategies, as an operator writes them in `feeds.toml`: a file and a line each.

What a strategy asks of a database is its file in `app/source/cursors/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, get_args

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from app.feeds.cursors.change_tracking import ChangeTrackingCursor
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.cursors.rowversion import RowversionCursor
from app.feeds.cursors.spec import CursorSpec
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


def _either(names: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(", ".join(names).rsplit(", ", 1))


POSITION_FORMS = _either(spec.position_form for spec in SPECS.values())
"""What an operator may give as a position: "0x…, an id or a moment"."""
_OWNERS: Mapping[str, Sequence[str]] = {
    name: [strategy for strategy, spec in SPECS.items() if name in spec.model_fields]
    for name in (name for spec in SPECS.values() for name in spec.model_fields)
}
"""Option → the strategies that have it."""


class _UnknownStrategy(Frozen):
    """What a cursor of no known strategy is checked against, so that the error stands at
    `strategy`.
    """

    strategy: str

    @field_validator("strategy", mode="before")
    @classmethod
    def _is_none_of(cls, value: object) -> object:
        del value
        known = {"expected": _either(map(repr, SPECS))}
        raise PydanticCustomError("literal_error", "not one of {expected}", known)


def spec_of(value: object) -> object:
    """The schema of the strategy that a table of `feeds.toml` names, filled from it. Anything else
    as it is. Raises pydantic's `ValidationError`.
    """
    if not isinstance(value, Mapping):
        return value
    spec = SPECS.get(str(value.get("strategy")))
    if spec is None:
        return _UnknownStrategy.model_validate(
            {name: value[name] for name in value if name == "strategy"}
        )
    return spec.model_validate(value)


def of_another(strategy: object, option: str) -> str | None:
    """What is wrong with an option that this strategy lacks: whose it is. `None`: no strategy's.

    Not ignored: whoever wrote it expects what it does there.
    """
    owners = _OWNERS.get(option)
    if not owners:
        return None
    return f"an option of strategy {_either(owners)}, not of {strategy}: leave it out"
