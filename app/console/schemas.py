"""What all subjects' schemas share: names, pages, and states in any usual spelling."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from app.console.errors import Invalid

T = TypeVar("T")
P = TypeVar("P")
E = TypeVar("E", bound=StrEnum)

PAGE, LONGEST_PAGE = 50, 200


class Schema(BaseModel):
    """Base of requests and responses: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Page(BaseModel, Generic[T]):
    """Some of a list, in its order."""

    items: list[T]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


Limit = Annotated[int, Field(ge=1, le=LONGEST_PAGE, description="Items a page.")]
Cursor = Annotated[str | None, Field(max_length=2000, description="The `next` of the page before.")]
Version = Annotated[int, Field(ge=1, description="Counts its changes: the ETag.")]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("one line of text without control characters")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
"""Text of one line."""


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a moment of the years 1 to 9999") from error


def _as_written(value: object) -> object:
    """A number is no moment: pydantic would take one for seconds since 1970."""
    if isinstance(value, (int, float)) or (isinstance(value, str) and "-" not in value[1:]):
        raise ValueError("a moment such as 2026-08-01T12:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_as_written), AfterValidator(_in_utc)]
"""A moment with its time zone."""
Why = Annotated[
    Line, Field(min_length=3, max_length=500, description="The reason, for the record.")
]


Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="An id of this console.")]

_WHY: TypeAdapter[str] = TypeAdapter(Why)


def read_why(text: str) -> str:
    """The reason that was typed into a form. Raises `Invalid` for none, and for one that cannot be
    kept."""
    try:
        return _WHY.validate_python(text.strip())
    except ValidationError as error:
        said = "a reason of 3 to 500 characters, on one line"
        raise Invalid(said, "why") from error


_ANOTHER_LIST = "not the `next` of a page of this list"


def cursor_of(*fields: object) -> str:
    """Where a page ended, as URL-safe text."""
    return urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The fields of a cursor. Raises `Invalid` for text that is none of ours, or of another list."""
    if text is None:
        return None
    try:
        fields = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise Invalid("not the `next` of a page", "query.after") from error
    if not isinstance(fields, list) or [type(one) for one in fields] != list(kinds):
        raise Invalid(_ANOTHER_LIST, "query.after")
    return tuple(fields)


def read_number_cursor(text: str | None) -> int | None:
    """The number of a cursor that holds one. Raises `Invalid` as above."""
    fields = read_cursor(text, int)
    if fields and not -(2**63) <= fields[0] < 2**63:  # what a database takes
        raise Invalid("not the `next` of a page", "query.after")
    return int(fields[0]) if fields else None


def cut(found: Sequence[T], limit: int, place: Callable[[T], P]) -> tuple[Sequence[T], P | None]:
    """The items of a page, of those found where one more than `limit` were asked for; and, where there
    are more behind it, the place of its last, from which the next page goes on."""
    page = found[:limit]
    return page, place(page[-1]) if len(found) > limit else None


MomentPlace = tuple[datetime, str]
"""Where a page of a list by moments ends: the moment and id of its last item."""


def moment_cursor(place: MomentPlace | None) -> str | None:
    """The cursor of that place; `None`: there is no next page."""
    return cursor_of(place[0].isoformat(), place[1]) if place else None


def read_moment_cursor(text: str | None) -> MomentPlace | None:
    """The place that a cursor names, its moment in UTC. Raises `Invalid`."""
    fields = read_cursor(text, str, str)
    if fields is None:
        return None
    at = read_cursor_moment(fields[0])
    if not str(fields[1]).isprintable():
        raise Invalid(_ANOTHER_LIST, "query.after")
    return at, fields[1]


def read_cursor_moment(text: str) -> datetime:
    """The moment that stands in a cursor, in UTC. Raises `Invalid`, also for one without a zone."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(_ANOTHER_LIST, "query.after") from error
    raise Invalid(_ANOTHER_LIST, "query.after")


def any_spelling(kind: type[E]) -> BeforeValidator:
    """Takes a value of the enum in any usual spelling: letter case, blanks, `-` and `_` make no
    difference, and a word more at the end neither (`dead`, `DEAD`, `dead-letter`)."""
    known = {_letters(member.value): member for member in kind}
    known |= {_letters(member.name): member for member in kind}

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        letters = _letters(value)
        return known.get(letters) or known.get(letters.removesuffix("letter")) or value

    return BeforeValidator(read)


def _letters(text: str) -> str:
    return re.sub(r"[\s_-]+", "", text).casefold().removesuffix("s")
