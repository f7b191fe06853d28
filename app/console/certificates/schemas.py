"""Certificates, as the API gives them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Self

from pydantic import Field

from app.console.feeds.schemas import GapShown
from app.console.schemas import Schema
from app.core.certificates import Certificate, DiscrepancyKind
from app.core.position import Position, ReadRange


class DiscrepancyShown(Schema):
    """What a certificate cannot vouch for."""

    kind: DiscrepancyKind
    count: int
    more: bool = Field(description="They were counted up to `count` only.")
    said: str = Field(description="In a sentence, with what to do.")
    ids: list[str] = Field(description="Of deliveries, some of them.")


class CertificateShown(Schema):
    """What one reconciliation found."""

    feed: str
    at: datetime
    begun_at: datetime | None
    complete: bool
    account: str = Field(description="The sum, in words.")
    position: str = Field(description="Up to where the source was compared, as JSON.")
    since: str | None = Field(description="From where on, as JSON; null: over all of it.")
    source_rows: int
    states: dict[str, int] = Field(description="Source rows by the state of their delivery.")
    missing: int
    healed: int
    deleted: int
    purged: int
    awaited: int
    missing_ids: list[str]
    discrepancies: list[DiscrepancyShown]

    @classmethod
    def of(cls, found: Certificate) -> Self:
        """Of a certificate in the ledger."""
        return cls(
            feed=found.feed,
            at=found.at,
            begun_at=found.begun_at,
            complete=found.complete,
            account=found.account,
            position=position_text(found.position),
            since=None if found.since is None else position_text(found.since),
            source_rows=found.source_rows,
            states={state.value: count for state, count in found.states.items()},
            missing=found.missing,
            healed=found.healed,
            deleted=found.deleted,
            purged=found.purged,
            awaited=found.awaited,
            missing_ids=list(found.missing_ids),
            discrepancies=[
                DiscrepancyShown(
                    kind=one.kind, count=one.count, more=one.more, said=one.said, ids=list(one.ids)
                )
                for one in found.discrepancies
            ],
        )


class FeedCertificate(Schema):
    """A feed's last certificate."""

    feed: str
    configured: bool = Field(description="Else it left feeds.toml.")
    certificate: CertificateShown | None = Field(description="null: it was never reconciled.")


class RangeShown(Schema):
    """A stretch of the source that the feed was given to read; positions as JSON."""

    after: str | None = Field(description="Exclusive; null: from the first row on.")
    upto: str | None = Field(description="Inclusive; null: it is still being read.")

    @classmethod
    def of(cls, found: ReadRange) -> Self:
        """Of a range in the ledger."""
        return cls(after=_text_or_none(found.after), upto=_text_or_none(found.upto))


class FeedProof(FeedCertificate):
    """A feed's last certificate over all of it, and what it stands on."""

    ranges: list[RangeShown]
    gaps: list[GapShown]


def position_text(position: Position) -> str:
    """A position as JSON."""
    return json.dumps(position, ensure_ascii=False)


def _text_or_none(position: Position) -> str | None:
    return None if position is None else position_text(position)
