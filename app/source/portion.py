"""Rows in the order they were read, before they are shaped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import Row

from app.core.position import Position
from app.core.rows import SourceRow


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands where a row is that the source cannot give whole."""

    found: SourceRow
    """Its key and position, and the reason."""
    bare: Row[Any]
    """As it was read by key and cursor column alone."""
    selected: bool = True
    """Whether the feed's conditions select it, as far as they can be told of it."""


Read: TypeAlias = "Row[Any] | Broken"


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows read, in order, each with its position."""

    rows: list[Read] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    more: bool = False
    """The limit was hit: more rows are waiting behind these."""

    def __len__(self) -> int:
        return len(self.rows)

    def __add__(self, other: Portion) -> Portion:
        return Portion(self.rows + other.rows, self.positions + other.positions, other.more)
