"""Records are values: equal by what they hold, and no field can be added."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.core.record import record


@record
class Pair:
    left: int
    right: int = 0


def test_a_record_is_a_value() -> None:
    assert Pair(1) == Pair(1, 0) != Pair(2)
    assert replace(Pair(1), right=2) == Pair(1, 2)
    with pytest.raises(AttributeError):
        setattr(Pair(1), "middle", 3)  # noqa: B010 - what mypy refuses
