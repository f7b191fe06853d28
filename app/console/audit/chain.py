"""The chain of the audit log: each entry carries the hash of the one before, so that none can be changed,
removed or slipped in without all that follow telling."""

from __future__ import annotations

import hashlib

import orjson

from app.console.store.tables import AuditEntry

FIRST = "0" * 64
"""What the first entry carries."""


def fields_of(entry: AuditEntry) -> dict[str, object]:
    """An entry with its hashes, as it is exported: all but `hash`, in this order, is what the hash is
    made of."""
    return {
        "number": entry.number,
        "at": entry.at.isoformat(timespec="microseconds"),
        "who": entry.who,
        "means": entry.means,
        "address": entry.address,
        "action": entry.action,
        "subject": entry.subject,
        "why": entry.why,
        "before": entry.before,
        "after": entry.after,
        "previous_hash": entry.previous_hash,
        "hash": entry.hash,
    }


def link_of(entry: AuditEntry) -> str:
    """The hash of an entry: SHA-256 in hexadecimal, over the JSON array (without blanks, in UTF-8) of
    everything in it and the hash before."""
    *fields, _ = fields_of(entry).values()
    return hashlib.sha256(orjson.dumps(fields)).hexdigest()
