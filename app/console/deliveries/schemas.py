"""Deliveries, as the API takes and gives them; and the filter that pages and operations choose by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlencode

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.console.deliveries.ref import Ref, read_ref, ref_of
from app.console.schemas import PAGE, Cursor, Limit, Line, Schema, any_spelling
from app.core.clock import utc_now
from app.core.keys import part_pattern
from app.core.states import State
from app.feeds.duration import moment_of_text
from app.ledger.listing import Order
from app.ledger.selection import Between, Selection

NO_STATUS = "none"
_NUMBER = re.compile(r"\s*[+-]?\d+([.,_]\d+)*\s*")
MOST_FEEDS, MOST_REFS = 100, 500
LONGEST_QUERY = 3000
"""Characters of the search box: a key of 1,024 characters, percent-encoded."""


def _moment(value: object) -> object:
    """A number alone is neither: who sends one may mean seconds since 1970, or ago."""
    if isinstance(value, (int, float)) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("a moment such as 2026-08-01T12:00:00Z, or a duration ago such as 2h")
    return moment_of_text(value, utc_now()) if isinstance(value, str) else value


def _attempts(text: str) -> str:
    Between.parse(text)
    return text


AnyState = Annotated[State, any_spelling(State)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"},
            ]
        }
    ),
]
"""ISO 8601, of UTC where it names no zone; or a duration ago, such as `2h`, which is read at once."""
FeedName = Annotated[Line, Field(min_length=1, max_length=200)]
Attempts = Annotated[
    str,
    Field(max_length=30, pattern=r"^\d{1,9}(\+|-\d{1,9})?$", examples=["3", "3+", "2-5"]),
    AfterValidator(_attempts),
]
Text = Annotated[Line, Field(min_length=1, max_length=300)]


class DeliveryFilter(Schema):
    """Which deliveries are meant. What is not given does not narrow it; given together, all must
    hold."""

    q: Annotated[Line, Field(min_length=1, max_length=LONGEST_QUERY)] | None = Field(
        default=None,
        description="An id, an Idempotency-Key, a key as people write it, or a part of a key, reason or error.",
    )
    feed: list[FeedName] = Field(default=[], max_length=MOST_FEEDS)
    state: list[AnyState] = Field(
        default=[], max_length=20, description="In any usual spelling: dead, DEAD, dead-letter."
    )
    reason: Text | None = Field(
        default=None, description="Text within the reason or the last error, in any letter case."
    )
    reason_kind: Text | None = Field(
        default=None, description="What the reasons of a dead-letter group have in common."
    )
    status: Annotated[int, Field(ge=100, le=599)] | Literal["none"] | None = Field(
        default=None, description='HTTP status of the last attempt; "none": it had no answer.'
    )
    attempts: Attempts | None = Field(
        default=None, description="Attempts since the last replay: 3, 3+ or 2-5."
    )
    since: Moment | None = Field(
        default=None, description="Settled then or later; of open deliveries, logged."
    )
    until: Moment | None = Field(default=None, description="Before then.")
    key: Annotated[Line, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Text within the key, as people write it."
    )
    ref: list[Ref] = Field(default=[], max_length=MOST_REFS, description="These deliveries.")

    def selection(self, states: Iterable[State] = tuple(State)) -> Selection:
        """The filter as what the ledger is asked and operations are told, but for `q`, which takes a
        look-up (`Deliveries.meant`). `states`: where it names none."""
        no_status = self.status == NO_STATUS
        return Selection(
            states=tuple(dict.fromkeys(self.state or states)),
            ids=tuple(dict.fromkeys(map(read_ref, self.ref))),
            feeds=tuple(dict.fromkeys(self.feed)) or None,
            since=self.since,
            until=self.until,
            reason=self.reason,
            reason_kind=self.reason_kind,
            status=self.status if isinstance(self.status, int) else None,
            without_status=no_status,
            attempts=Between.parse(self.attempts) if self.attempts else None,
            key_pattern=part_pattern(self.key) if self.key else None,
        )

    @classmethod
    def of_ids(cls, ids: Iterable[str]) -> Self:
        """The filter that means these deliveries, by their stored ids."""
        return cls(ref=[ref_of(one) for one in ids])

    def query(self, **changed: Any) -> str:
        """The filter as the query of an address, without `?`; some of it `changed` (`None` or `[]`
        takes it out)."""
        return urlencode(self.pairs(**changed))

    def pairs(self, **changed: Any) -> list[tuple[str, str]]:
        """The same as (name, value), for the fields of a form."""
        fields = self.model_dump(mode="json", exclude_defaults=True) | changed
        return [
            (name, str(one))
            for name, value in fields.items()
            for one in (value if isinstance(value, list) else [value])
            if one
        ]

    @classmethod
    def read(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """The filter of an address's query, as (name, value); names of other things, and what a form
        left empty, are passed over. Raises pydantic's `ValidationError`."""
        fields: dict[str, Any] = {}
        for name, value in pairs:
            text = value.strip()
            if not text or name not in cls.model_fields:
                continue
            if name in ("feed", "state", "ref"):
                fields.setdefault(name, []).append(text)
            else:
                fields[name] = text
        return cls.model_validate(fields)

    @classmethod
    def of_query(cls, query: str) -> Self:
        """The filter of such a query. Raises as `read`."""
        return cls.read(parse_qsl(query))

    @property
    def narrows(self) -> bool:
        """Whether anything but a state is asked for."""
        return bool(
            self.model_dump(exclude_defaults=True, exclude={"state", "order", "limit", "after"})
        )


class DeliverySearch(DeliveryFilter):
    """A page of the deliveries that a filter means."""

    order: Literal["newest", "oldest"] = Field(default="newest", description="What comes first.")
    limit: Limit = PAGE
    after: Cursor = Field(default=None, description="`next` or `previous` of another page.")

    @property
    def in_order(self) -> Order:
        """As the ledger is asked."""
        return Order(self.order)
