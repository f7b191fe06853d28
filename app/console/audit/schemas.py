"""The audit log, as the API gives it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from app.console.audit.difference import value_of
from app.console.schemas import Schema
from app.console.store.tables import AuditEntry


class AuditShown(Schema):
    """One thing that somebody did."""

    number: int = Field(description="From 1, without gaps.")
    at: datetime
    who: str = Field(description="The user's name, or `user@host` of a command.")
    means: str = Field(description="`session`, `token`, `api key` or `command`.")
    address: str = Field(description="Where from.")
    action: str
    subject: str
    why: str | None
    before: Any = Field(description="What it was; null where there was nothing.")
    after: Any = Field(description="What it became; null where there is nothing.")
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditShown:
        """An entry of the table."""
        names = (
            "number", "at", "who", "means", "address", "action", "subject", "why", "previous_hash", "hash",
        )  # fmt: skip
        fields = {name: getattr(entry, name) for name in names}
        return cls(**fields, before=value_of(entry.before), after=value_of(entry.after))


class VerifiedShown(Schema):
    """What came of verifying the chain."""

    entries: int = Field(description="That are as they were written, from the first on.")
    wrong: int | None = Field(
        description="The number of the first that is not, or is missing; null: none."
    )
    said: str
    last_hash: str = Field(
        description="Of the last entry that is: noted elsewhere, it shows later that nobody wrote the chain anew."
    )
