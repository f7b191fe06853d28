"""A cursor as the ledger stores it, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from app.core.certificates import DiscrepancyKind
from app.core.cursors import Cursor, FeedMove, FeedMoveKind, Notice, Origin, Reading
from app.core.position import Gap, Position, ReadRange
from app.core.rows import NewForm, Page
from app.ledger.client import Document
from app.ledger.purge_watermarks import higher, place_of
from app.ledger.stamp import Stamp

MOVES_KEPT = 20
"""What operators did with a feed lately."""
DETAIL_LIMIT = 500
"""Characters that tell what was done."""
SPANS_KEPT = 20
"""The latest read ranges of a feed that was rewound many times."""


def held_since(cursor: Cursor, page: Page, now: datetime) -> datetime | None:
    return (cursor.held_since or now) if page.held else None


def gap_documents(gaps: Sequence[Gap]) -> list[Document]:
    return [{"low": gap.low, "high": gap.high, "since": gap.since} for gap in gaps]


def ranges_after(cursor: Cursor, to: Cursor) -> Sequence[ReadRange]:
    """The read ranges after a rewind: those that the cursor has read, and the new one.

    A range from the beginning replaces all the others. Those that overlap become one, so that only
    what was passed over on purpose makes more of them.
    """
    if not cursor.spans or cursor.position is None or any(span.after is None for span in to.spans):
        return to.spans
    closed = [*cursor.spans[:-1], ReadRange(cursor.spans[-1].after, cursor.position)]
    return [*_joined(closed), *to.spans][-SPANS_KEPT:]


def _joined(ranges: Sequence[ReadRange]) -> list[ReadRange]:
    """The same ranges, with one for all that overlap."""
    joined: list[ReadRange] = []
    for one in ranges:
        whole = one
        while other := next((found for found in joined if _overlap(found, whole)), None):
            joined.remove(other)
            whole = ReadRange(
                other.after if _begins_before(other.after, whole.after) else whole.after,
                higher(other.upto, whole.upto),
            )
        joined.append(whole)
    return joined


def _overlap(one: ReadRange, other: ReadRange) -> bool:
    """Whether both are surely one. The rest of a key is in the source's order: ends that differ in
    that alone are not compared.
    """
    return (
        _begins_before(one.after, other.upto)
        and _begins_before(other.after, one.upto)
        and all(
            this == that or place_of(this) != place_of(that)
            for this, that in ((one.after, other.after), (one.upto, other.upto))
        )
    )


def _begins_before(after: Position, position: Position) -> bool:
    ours, theirs = place_of(after), place_of(position)
    return after is None or (ours is not None and theirs is not None and ours < theirs)


def form_fields(form: NewForm, now: datetime) -> Document:
    fields: Document = {
        "columns": [{"name": name, "type": kind} for name, kind in form.columns],
        "offered": list(form.offered),
    }
    return fields | ({"noted": form.said, "noted_at": now} if form.said else {})


def range_documents(spans: Sequence[ReadRange]) -> list[Document]:
    return [{"after": span.after, "upto": span.upto} for span in spans]


def cursor_of(document: Document) -> Cursor:
    return Cursor(
        feed=document["_id"],
        position=document.get("position"),
        gaps=tuple(Gap(gap["low"], gap["high"], gap["since"]) for gap in document.get("gaps", ())),
        version=document["version"],
        paused=document.get("paused", False),
        paused_reason=document.get("paused_reason"),
        sends=not document.get("sending_paused")
        and (not document.get("paused") or document.get("sends", False)),
        sending_paused=document.get("sending_paused"),
        paused_by=document.get("paused_by"),
        last_poll_at=document.get("last_poll_at"),
        last_row_at=document.get("last_row_at"),
        last_error=document.get("last_error"),
        failures=document.get("failures", 0),
        retry_at=document.get("retry_at"),
        spans=tuple(ReadRange(span["after"], span["upto"]) for span in document.get("spans", ())),
        columns=tuple((column["name"], column["type"]) for column in document.get("columns", ())),
        offered=tuple(document.get("offered", ())),
        noted=document.get("noted"),
        noted_at=document.get("noted_at"),
        held=document.get("held"),
        held_since=document.get("held_since"),
        origin=_origin(document.get("origin")),
        lowest=document.get("lowest"),
        notices=tuple(
            Notice(DiscrepancyKind(kind), found["said"], found["at"])
            for kind, found in document.get("notices", {}).items()
        ),
        moves=tuple(map(_move, document.get("moves", ()))),
        reading=_reading(document.get("reading")),
    )


def move_pushed(kind: FeedMoveKind, detail: str, stamp: Stamp | None) -> Document:
    """The part of an update that records what an operator did; none without a stamp."""
    if stamp is None:
        return {}
    move = stamp.document | {"kind": kind.value, "detail": detail[:DETAIL_LIMIT]}
    return {"$push": {"moves": {"$each": [move], "$slice": -MOVES_KEPT}}}


def _move(document: Document) -> FeedMove:
    return FeedMove(
        FeedMoveKind(document["kind"]),
        document["at"],
        document["by"],
        document.get("why"),
        document["detail"],
    )


def _reading(document: Document | None) -> Reading | None:
    return Reading(document["by"], document["until"]) if document else None


def origin_document(origin: Origin) -> Document:
    return asdict(origin) | {"key": list(origin.key)}


def _origin(document: Document | None) -> Origin | None:
    return Origin(**document | {"key": tuple(document["key"])}) if document else None
