"""What is wrong with a value, in an operator's words: where it is, what was found, what is allowed.

The library that validates settings and feeds speaks of its own types, which mean nothing to an
operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from app.core.spelling import likely

DURATION = 'a duration such as "200ms", "5s", "10m", "2h" or "3d"; a number alone is seconds'
SECRET_FIELDS = re.compile(
    r"auth|body|cookie|header|key|password|secret|sign|token|url", re.IGNORECASE
)
HIDDEN = "a value not shown here"
KEY = "key"
"""A feed's own: it names columns."""

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number that is not infinite",
    "json_invalid": "valid JSON",
    "string": "a text",
    "string_pattern_mismatch": "a text of another form",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "model_attributes": "a table",
    "path": "the path of a file or directory",
    "date": "a date",
    "datetime": "a date and time",
    "time": "a time of day",
    "time_delta": DURATION,
    "timezone_aware": "a moment with its time zone",
}
"""By the start of the library's name for an error; longer names take precedence."""
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} or less"),
}
_SIZES = {
    "too_short": ("at least 1 entry", "at least {} entries"),
    "too_long": ("at most 1 entry", "at most {} entries"),
    "string_too_short": ("at least 1 character", "at least {} characters"),
    "string_too_long": ("at most 1 character", "at most {} characters"),
}
"""By the library's name for an error: of one, and of several."""
_ANOTHER = "another value"
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def place(value: object, loc: Sequence[int | str], kind: str) -> tuple[str, ...]:
    """The names on the path to a wrong value, as in the file: without the library's own markers in
    between.
    """
    names: list[str] = []
    current: Any = value
    inside: Any
    for number, part in enumerate(loc):
        inside = current if isinstance(current, (dict, list, tuple)) else ()
        try:
            current = inside[part]
        except (KeyError, IndexError, TypeError):
            if not (kind == "missing" and number == len(loc) - 1):
                continue
        names.append(str(part))
    return tuple(names)


def found(detail: ErrorDetails) -> str:
    """The value as the file would write it, unless it is or holds a secret."""
    if detail["type"] in ("missing", "union_tag_not_found"):
        return "nothing"
    loc = detail["loc"]
    if loc[:1] != (KEY,) and any(SECRET_FIELDS.search(str(part)) for part in loc):
        return HIDDEN
    return shown(detail["input"])


def shown(value: object) -> str:
    """A value from TOML or the environment."""
    if isinstance(value, str):  # a URL that was meant for another setting may hold a password
        return HIDDEN if "://" in value and "@" in value else repr(value)
    if isinstance(value, (dict, list, tuple)):
        return "a table" if isinstance(value, dict) else "a list"  # there may be secrets in it
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if value is None:
        return "nothing"
    return orjson.dumps(value).decode() if isinstance(value, bool) else str(value)


def allowed(detail: ErrorDetails, known: Iterable[str] = ()) -> str:
    """What is allowed. `known`: names that an unknown one may be meant for."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "this field is required"
    if kind == "extra_forbidden":
        meant = likely(str(detail["loc"][-1]), known)
        return (
            f"no such field: {meant} was likely meant"
            if meant
            else "no such field: check the spelling"
        )
    if kind == "value_error":
        return str(context.get("error", "")).strip() or _ANOTHER
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind.startswith("union_tag"):
        return f"a table with type = {context.get('expected_tags', '…').replace(', ', ' or ')}"
    return _of_size(kind, context) or _of_kind(kind)


def _of_size(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return text.format(_bound(context[name]))
    if kind not in _SIZES:
        return None
    one, several = _SIZES[kind]
    count = context["min_length" if kind.endswith("short") else "max_length"]
    return one if count == 1 else several.format(count)


def _of_kind(kind: str) -> str:
    for name in sorted(_KINDS, key=len, reverse=True):
        if kind.startswith(name):
            return _KINDS[name]
    return _ANOTHER


def _bound(value: object) -> str:
    """A bound; a duration as operators write it."""
    if isinstance(value, str) and (match := re.search(r"timedelta\((?:days=)?(\d+)\)", value)):
        value = timedelta(days=int(match[1]))
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        size, unit = next(
            ((size, unit) for size, unit in _UNITS if seconds and seconds % size == 0), (1, "s")
        )
        return f"{seconds / size:g}{unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def names_of(model: type[BaseModel]) -> set[str]:
    """Every name that a table, or a table in it, may hold."""
    names: set[str] = set()
    open_models, seen = [model], set[type[BaseModel]]()
    while open_models:
        one = open_models.pop()
        if one in seen:
            continue
        seen.add(one)
        for name, field in one.model_fields.items():
            names.add(field.alias or name)
            open_models += _models_in(field.annotation)
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = [*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())]
    return [model for part in inner for model in _models_in(part)]
