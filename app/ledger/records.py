"""A delivery and its attempts as one line of JSON, and back, without loss: MongoDB's Extended JSON, relaxed form.

    {"delivery": {…}, "attempts": [{…}, …]}

Moments are written as `{"$date": "2026-01-31T10:00:00.123Z"}`, so a person can read them, and `mongoimport` takes them
(https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

import orjson
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions, dumps, loads

from app.ledger.client import Document

_OPTIONS: JSONOptions = JSONOptions(json_mode=JSONMode.RELAXED, tz_aware=True, tzinfo=UTC)

CHUNK_BYTES = 8_000_000
"""About how much of payloads and attempts is held in memory at once."""
ATTEMPT_BYTES = 2500
"""What an attempt holds at most, about: its answer's body is cut at 2 KiB."""


@dataclass(frozen=True, slots=True)
class Record:
    """A delivery as the ledger holds it, with every attempt on record."""

    delivery: Document
    attempts: Sequence[Document] = ()

    @property
    def id(self) -> str:
        """The delivery's."""
        return str(self.delivery["_id"])

    @property
    def weight(self) -> int:
        """How many bytes it holds, about."""
        return weight(self.delivery, len(self.attempts))


def weight(delivery: Document, attempts: int) -> int:
    """How many bytes a delivery with that many attempts holds, about and at most."""
    return len(delivery.get("payload") or "") + ATTEMPT_BYTES * attempts


def to_line(record: Record) -> bytes:
    """The record as a line, with its end."""
    parts = {"delivery": record.delivery, "attempts": record.attempts}
    return (dumps(parts, json_options=_OPTIONS, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def from_line(line: bytes) -> Record:
    """The record of a line. Raises `ValueError` that says what is wrong with it."""
    try:
        found = loads(line.decode(), json_options=_OPTIONS)
    except (ValueError, TypeError, BSONError) as error:
        raise ValueError(f"not Extended JSON: {error}") from error
    return Record(*_parts(found))


def glance(line: bytes) -> tuple[str, int]:
    """The id of a line's delivery and how many attempts it has: 30 times as fast, for who only counts.

    Raises `ValueError` as `from_line` does, but looks into no value.
    """
    delivery, attempts = _parts(orjson.loads(line))
    return delivery["_id"], len(attempts)


def _parts(found: object) -> tuple[Document, list[Document]]:
    """The delivery and its attempts, where that is what was found."""
    match found:
        case {"delivery": dict(delivery), "attempts": list(attempts)}:
            pass
        case _:
            raise ValueError("no delivery with its attempts")
    if not all(isinstance(delivery.get(field), str) for field in ("_id", "feed", "state")):
        raise ValueError("a delivery without an id, a feed or a state")
    if not all(isinstance(attempt, dict) and _belongs(attempt, delivery) for attempt in attempts):
        raise ValueError(f"delivery {delivery['_id']!r}: an attempt of another delivery")
    return delivery, attempts


def _belongs(attempt: Document, delivery: Document) -> bool:
    return str(attempt.get("_id")).startswith(f"{delivery['_id']}#")
