"""A delivery as the ledger stores it: its id, its fields when it is logged, and how an attempt
changes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import blake2b
from urllib.parse import quote

import orjson

from app.core.attempts import Result
from app.core.deliveries import Delivery
from app.core.keys import has_identity, short_key
from app.core.position import Position
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger.client import Document
from app.ledger.ids import ids_under


def delivery_id(feed: str, row: SourceRow) -> str:
    """The id under which the row is logged: the same row, or with `capture = "changes"` the same
    change of it, always gives the same id. Of a long key it holds a hash, so that no id, header or
    batch is long: see `short_key`."""
    key = short_key(row.key)
    return f"{feed}:{key}" if row.change is None else f"{feed}:{key}:{short_key(quote(row.change))}"


FIELDS_OF_A_DELIVERY = (
    "feed", "key", "payload", "created_at", "attempts", "replayed_at", "last",
)  # fmt: skip
"""What `delivery_of` reads. The others cost who asks for them more than they cost the server to
leave out.
"""


def delivery_of(document: Document) -> Delivery:
    """A delivery as it is on record, with its payload."""
    last = document.get("last", {})
    return Delivery(
        document["_id"],
        document["feed"],
        document["key"],
        document["payload"],
        document["created_at"],
        document["attempts"],
        document.get("replayed_at"),
        in_doubt="in_doubt" in last,
        refused_at=last.get("refused_at"),
    )


MEND_IT = "; mend the row in the source, then replay: it is read again"


def place_hash(position: Position) -> int:
    """A position in 48 bits, so that the server can add up many."""
    return int.from_bytes(blake2b(orjson.dumps(position), digest_size=6).digest(), "big")


def ids_of(feed: str, after: str = "") -> Document:
    """A filter: the feed's deliveries; with `after`, those whose ids follow it. A key may be the
    empty text.
    """
    return {"_id": ids_under(f"{feed}:", after)}


def logged(known_as: str, feed: str, row: SourceRow, now: datetime) -> Document:
    """`known_as`: its `delivery_id`."""
    document: Document = {
        "_id": known_as,
        "feed": feed,
        "key": row.key,
        "position": row.position,
        "payload": row.payload,
        "created_at": now,
        "attempts": 0,
        "place": place_hash(row.position),
    }
    if row.content is not None:
        document["content"] = row.content
    return document


def why_dead(row: SourceRow) -> str:
    """With what to do about it, where the row may be read again under its key."""
    return f"{row.error}{MEND_IT}" if not row.payload and has_identity(row.key) else row.error or ""


def success(status: int, now: datetime) -> Document:
    return {
        "$set": {
            "state": State.DELIVERED.value,
            "finished_at": now,
            "last": {"at": now, "status": status},
        },
        "$inc": {"attempts": 1},
        "$unset": {"next_attempt_at": "", "reason": ""},
    }


def _refused_at(result: Result) -> datetime | None:
    answer = result.answer
    if result.delivery.refused_at or answer.status != 403:
        return result.delivery.refused_at
    return answer.at + timedelta(milliseconds=answer.duration_ms)


def failure(result: Result, now: datetime) -> Document:
    verdict, answer = result.verdict, result.answer
    last: Document = {"at": answer.at, "error": verdict.reason}
    if answer.status is not None:
        last["status"] = answer.status
    if verdict.in_doubt:
        last["in_doubt"] = True
    if refused_at := _refused_at(result):
        last["refused_at"] = refused_at
    if verdict.next_attempt_at is not None:
        moved: Document = {
            "state": State.RETRYING.value,
            "next_attempt_at": verdict.next_attempt_at,
        }
    else:
        moved = {"state": State.DEAD.value, "finished_at": now, "reason": verdict.reason}
    return {
        "$set": moved | {"last": last},
        "$inc": {"attempts": int(answer.made)},
        "$unset": {"batch": "", "token": ""},
    }
