"""How far a feed has been read, and the ranges and gaps of the source in its cursor's order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

Position: TypeAlias = "int | str | list[int | str | list[str] | None] | None"
"""How far a feed has been read, in a form that JSON and BSON both hold. `None`: nothing read yet.

`identity`: the id. `rowversion` and `timestamp`: a list of the column's value and the parts of the
key, each as `source.position_codec` places it; or the column's value alone, where an operator gave it, or
the key cannot stand in a position. `change_tracking`: a list of the version and the parts of the
key; or the version alone, up to which all was read.
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """Identity values `low..high` (inclusive) that were missing when the range was read."""

    low: int | None
    """`None`: everything up to `high`, for rows that commit below the first one ever read."""
    high: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReadRange:
    """A stretch of the source that a cursor reads, in the cursor's own order."""

    after: Position = None
    """Exclusive; `None`: from the first row on."""
    upto: Position = None
    """Inclusive; `None`: it is still being read."""
