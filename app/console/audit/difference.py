"""What an entry of the audit log changed, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Changed:
    """One field."""

    field: str
    """Those within another with a dot between; empty for a value that has no fields."""
    before: str | None
    """`None`: there was none."""
    after: str | None
    """`None`: there is none."""

    @property
    def same(self) -> bool:
        """It stayed as it was."""
        return self.before == self.after


def difference(before: str | None, after: str | None) -> list[Changed]:
    """The fields of the two, as JSON: those that differ first, each kind by name."""
    old, new = _fields(before), _fields(after)
    fields = [Changed(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    return sorted(fields, key=lambda field: field.same)


def value_of(text: str | None) -> Any:
    """The value of stored JSON; the text itself where it was cut for its length."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def _fields(text: str | None) -> dict[str, str]:
    return {} if text is None else dict(_flat("", value_of(text)))


def _flat(name: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            found
            for key, inner in value.items()
            for found in _flat(f"{name}.{key}" if name else str(key), inner)
        ]
    shown = value if isinstance(value, str) else orjson.dumps(value).decode()
    return [(name, shown)]
