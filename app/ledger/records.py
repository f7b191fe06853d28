"""A delivery and its attempts as one line of JSON, and back, without loss: MongoDB's Extended JSON,
relaxed form.

    {"delivery": {…}, "attempts": [{…}, …]}

Moments are written as `{"$date": "2026-01-31T10:00:00.123Z"}`, so a person can read them, and
`mongoimport` takes them (https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/).
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
LINE_BYTES = 64 * 2**20
"""Of one line at most. A payload (15 MB at most) may take twice its bytes as a JSON string, and
attempts the rest.
"""
ATTEMPTS_BYTES = 16 * 2**20
"""Of one delivery's attempts as JSON, at most, about."""
_PLAIN_LINE = 2**20
"""A shorter line cannot make many values; a longer one is counted through before it is read."""
_MOST_VALUES = 500_000
"""In one line: each takes memory, however short it is written."""


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


def attempt_weight(attempt: Document) -> int:
    """How many bytes an attempt takes in a line at most, about: control characters are written as
    six.
    """
    return 500 + 6 * (len(attempt.get("response") or "") + len(attempt.get("error") or ""))


def to_line(record: Record) -> bytes:
    """The record as a line, with its end."""
    parts = {"delivery": record.delivery, "attempts": record.attempts}
    return (
        dumps(parts, json_options=_OPTIONS, ensure_ascii=False, separators=(",", ":")) + "\n"
    ).encode()


def from_line(line: bytes) -> Record:
    """The record of a line. Raises `ValueError` that says what is wrong with it."""
    try:
        _require_bounded(line)
        found = loads(line.decode(), json_options=_OPTIONS)
    except (ValueError, TypeError, BSONError, OverflowError) as error:
        raise ValueError(f"not Extended JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("not Extended JSON: nested too deeply") from error
    return Record(*_parts(found))


def glance(line: bytes) -> tuple[str, int]:
    """The id of a line's delivery and how many attempts it has: 30 times as fast, for who only
    counts.

    Raises `ValueError` as `from_line` does, but looks into no value.
    """
    _require_bounded(line)
    delivery, attempts = _parts(orjson.loads(line))
    return delivery["_id"], len(attempts)


def _require_bounded(line: bytes) -> None:
    """Raises `ValueError` for a line of so many values that reading it would take a multiple of its
    bytes.
    """
    if len(line) <= _PLAIN_LINE:
        return
    bare = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")
    outside = bare.split(b'"')[::2]
    if sum(part.count(sign) for part in outside for sign in (b",", b"[", b"{")) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")


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
