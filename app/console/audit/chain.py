"""The chain of the audit log: each entry carries the hash of the one before, so that none can be changed,
removed or slipped in without all that follow telling."""

from __future__ import annotations

import hashlib
from datetime import datetime

import orjson

from app.console.store.tables import AuditEntry

FIRST = "0" * 64
"""What the first entry carries."""


def link_of(entry: AuditEntry) -> str:
    """The hash of an entry: SHA-256 in hexadecimal, over everything in it and the hash before."""
    fields = [
        entry.number,
        _text(entry.at),
        entry.who,
        entry.means,
        entry.address,
        entry.action,
        entry.subject,
        entry.why,
        entry.before,
        entry.after,
        entry.previous_hash,
    ]
    return hashlib.sha256(orjson.dumps(fields)).hexdigest()


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
