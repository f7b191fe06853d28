"""A feed's `body`, which is sent in place of the row: a template, or a function of the operator's.

In a template a text `$column` stands for the row's value, `$column|quote` for its text percent-encoded, `$$` for a `$`;
`"*"` for all columns, or all but some:

    {"*": {"except": ["note"]}, "customer": {"name": "$customer"}, "source": "erp"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import quote

import orjson

from app.core.attempts import Ruling
from app.core.shown import one_line
from app.core.spelling import alike
from app.partner.failures import Undone

Row = dict[str, Any]
Render = Callable[[Row], Any]

ALL = "*"
QUOTED = "|quote"
"""Behind a column: its value as text, percent-encoded."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""`package.module:name`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands for a column's value."""

    column: str
    quoted: bool = False
    """Its text, percent-encoded in UTF-8 but for `A-Z a-z 0-9 _ . - ~`, as keys are in ids; NULL
    stays NULL.
    """

    def of(self, row: Row, where: str) -> Any:
        """The row's value. Raises `Undone` where the row has no such column."""
        value = cell(row, self.column, where)
        return (
            quote(text_of(value), safe="", errors="surrogatepass")
            if self.quoted and value is not None
            else value
        )


@dataclass(frozen=True, slots=True)
class Rest:
    """Stands for all columns but these."""

    without: tuple[str, ...]


def unsendable(reason: str) -> Undone:
    """The error for a row that no request can be made of: it becomes a dead letter with the reason."""
    return Undone(reason, Ruling.REFUSED)


def row_of(payload: str) -> Row:
    """The row as the source gave it; integers of any size keep their digits, which orjson's reader
    would not.
    """
    row: Row = json.loads(payload)
    return row


def text_of(value: Any) -> str:
    """A value as text: itself, or its JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def cell(row: Row, column: str, where: str) -> Any:
    """The value of the column of that name: written the same, or else the only one that differs in
    case alone.

    Raises `Undone` where the row has no such column.
    """
    found = [column] if column in row else alike(column, row)
    if len(found) == 1:
        return row[found[0]]
    raise unsendable(f"{where}: the row has no column {column!r}; it has {', '.join(row)}")


def parse_text(text: str) -> str | Reference:
    """A text of a template or a header: a reference, or the text that is meant."""
    if text.startswith("$$") or not text.startswith("$") or text == "$":
        return text.removeprefix("$") if text.startswith("$$") else text
    column = text[1:].removesuffix(QUOTED)
    return Reference(column, quoted=column != text[1:])


def renderer(body: str | Mapping[str, Any]) -> Render:
    """The function that makes of a row what is sent in its place. It raises `Undone` for a row it
    cannot make it of.

    Raises `ValueError`, in an operator's words, for a template or a function that cannot be used.
    """
    if isinstance(body, str):
        return _called(body)
    template = _parsed(dict(body))
    json.dumps(_constants(template), allow_nan=False, default=str)
    return lambda row: _filled(template, row)


def to_json(value: Any) -> bytes:
    """JSON in UTF-8. Raises `Undone` for a value that has no JSON form."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass  # an integer beyond 64 bits, or no JSON at all
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise unsendable(f"body: no JSON form: {error}") from error


def references(body: str | Mapping[str, Any] | None) -> Iterator[str]:
    """The columns that a template names."""
    if not isinstance(body, Mapping):
        return
    for part in _parts(_parsed(dict(body))):
        if isinstance(part, Reference):
            yield part.column
        elif isinstance(part, Rest):
            yield from part.without


def _called(path: str) -> Render:
    if not _FUNCTION.fullmatch(path):
        raise ValueError(f"{path!r}, which names no function")
    module, _, name = path.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ValueError(f"{path!r} cannot be imported: there is no module {missing}") from error
    except Exception as error:  # importing the operator's module runs the operator's code
        raise ValueError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if function is None:
        raise ValueError(f"{path!r} cannot be imported: the module has no {name}")
    if not callable(function):
        raise ValueError(f"{path!r} is no function")  # noqa: TRY004  the caller reports one kind of error

    def call(row: Row) -> Any:
        try:
            return function(row)
        except Exception as error:
            raise unsendable(f"body: {path}: {type(error).__name__}: {one_line(error)}") from error

    return call


def _parsed(value: Any) -> Any:
    """A template with its references as `Reference` and `Rest`. Raises `ValueError` for a `"*"` of
    another form.
    """
    if isinstance(value, str):
        return parse_text(value)
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    if isinstance(value, dict):
        return {name: _rest(item) if name == ALL else _parsed(item) for name, item in value.items()}
    return value


def _rest(value: Any) -> Rest:
    if (
        not isinstance(value, dict)
        or set(value) - {"except"}
        or not isinstance(value.get("except", []), list)
    ):
        raise ValueError(
            'write "*" = {} for all columns, or "*" = { except = ["column", …] } for all but those'
        )
    return Rest(tuple(map(str, value.get("except", []))))


def _filled(part: Any, row: Row) -> Any:
    if isinstance(part, Reference):
        return part.of(row, "body")
    if isinstance(part, dict):
        filled: Row = {}
        for name, inner in part.items():
            if isinstance(inner, Rest):
                filled |= _rest_of(row, inner)
            else:
                filled[name] = _filled(inner, row)
        return filled
    return [_filled(inner, row) for inner in part] if isinstance(part, list) else part


def _rest_of(row: Row, rest: Rest) -> Row:
    """All columns but those; one of them that the row lacks is an error, since a misspelt one would
    be sent.
    """
    for column in rest.without:
        cell(row, column, "body: except")
    without = {column.casefold() for column in rest.without}
    return {column: value for column, value in row.items() if column.casefold() not in without}


def _parts(part: Any) -> Iterator[Any]:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    yield part
    for each in inner:
        yield from _parts(each)


def _constants(template: Any) -> list[Any]:
    return [
        part for part in _parts(template) if not isinstance(part, (dict, list, Reference, Rest))
    ]
