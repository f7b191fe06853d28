"""What of a delivery's request would be different, were it made of the row as the source has it now,
and not as it was logged. Tells where, never what: no value of a row is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from app.core.errors import RowrelayError
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.delivery_documents import delivery_of
from app.partner.request import prepare
from app.reads.preview import RequestPreview, preview_request
from app.reads.row_finder import RowFinder
from app.reads.subject import Subject, of_source

MOST = 50
"""Differences that are told."""
_ANEW = ("webhook-", "date", "authorization", "signature", "x-amz-")
"""How headers begin that are made anew for every request."""


class How(StrEnum):
    """What became of a part of the request."""

    CHANGED = "changed"
    ADDED = "added"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of the request that is another now."""

    part: str
    """`url`, `header content-type`, `body customer.name`."""
    how: How


@dataclass(frozen=True, slots=True)
class RequestDifference:
    """Then and now."""

    differences: tuple[Difference, ...] = ()
    untold: str | None = None
    """Why that cannot be told."""


async def request_difference(
    feed: Feed, ledger: Ledger, source: RowFinder, document: Document, now: datetime
) -> RequestDifference:
    """Compare the two. `document`: a stored delivery, whole. What the source or the configuration
    refuses is told, not raised; raises the ledger's errors."""
    if not document.get("payload"):
        return RequestDifference(untold="the ledger has no row of it to compare with")
    agreed = (await ledger.cursors.get(feed.name)).columns
    try:
        found = await source.find(feed, document["key"], agreed)
        prepared = prepare(feed)
    except RowrelayError as error:
        return RequestDifference(untold=str(error))
    if found is None:
        return RequestDifference(untold="the source has no such row any more")
    then = preview_request(prepared, Subject(delivery_of(document), "ledger", document))
    today = preview_request(prepared, of_source(feed, found.row, now, document, read=found.read))
    if today.unsent or then.unsent:
        return RequestDifference(untold=today.unsent or then.unsent)
    return RequestDifference(tuple(_compared(_parts(then), _parts(today)))[:MOST])


def _compared(then: Mapping[str, object], today: Mapping[str, object]) -> Iterator[Difference]:
    for part in dict.fromkeys((*then, *today)):
        if part not in today:
            yield Difference(part, How.GONE)
        elif part not in then:
            yield Difference(part, How.ADDED)
        elif then[part] != today[part]:
            yield Difference(part, How.CHANGED)


def _parts(request: RequestPreview) -> dict[str, object]:
    parts: dict[str, object] = {"url": request.url}
    for name, value in request.headers.items():
        lowered = name.lower()
        if not lowered.startswith(_ANEW) and lowered != "content-length":
            parts[f"header {lowered}"] = value
    try:
        body = orjson.loads(request.body)
    except ValueError:
        return parts | {"body": request.body}
    return parts | dict(_leaves("body", body))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, one in value.items():
            joint = " " if name == "body" else "."
            yield from _leaves(f"{name}{joint}{key}", one)
    else:
        yield name, value
