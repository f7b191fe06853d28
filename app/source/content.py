"""A hash of what a row holds: kept with its delivery, and compared with what the source holds
later.

Columns that are NULL are left out, and the others taken by name: so a column that is added, empty,
changes no hash, nor does another order of the columns. Of what is hashed only the JSON form counts,
as it is sent (see `payload.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

HASH_BYTES = 6
"""48 bits: the sum of as many as a window has rows fits into 64."""


def by_name(names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The names, each with its place in a row, in the order in which they are hashed."""
    return tuple(sorted((name, place) for place, name in enumerate(names)))


def held(ordered: Sequence[tuple[str, int]], values: Sequence[Any]) -> dict[str, Any]:
    """What is not NULL, by name, in that order."""
    return {name: value for name, place in ordered if (value := values[place]) is not None}


def hashed(key: str, content: bytes) -> int:
    """0 to 2**48 - 1. The key is in it, so that two rows which swap what they hold change their
    sum.
    """
    return int.from_bytes(
        blake2b(key.encode() + b"\0" + content, digest_size=HASH_BYTES).digest(), "big"
    )
