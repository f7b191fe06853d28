"""A certificate of completeness, as a report holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.core.certificates import Certificate, DiscrepancyKind
from app.core.states import OPEN_STATES, State


@dataclass(frozen=True, slots=True)
class Doubt:
    """A discrepancy of a certificate."""

    kind: str
    count: int
    ids: tuple[str, ...]
    said: str
    """In a sentence."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A certificate of completeness, in figures: `source_rows` = the sum of `states`, or what is
    missing.
    """

    feed: str
    at: datetime
    position: str
    """As JSON."""
    complete: bool
    source_rows: int
    states: Mapping[str, int]
    """`delivered`, `dead`, `skipped`, `cancelled`, `open`."""
    missing: int = 0
    missing_ids: tuple[str, ...] = ()
    healed: int = 0
    deleted: int = 0
    purged: int = 0
    awaited: int = 0
    by_key: int = 0
    discrepancies: tuple[Doubt, ...] = ()

    @property
    def unaccounted(self) -> int:
        """Source rows that no state accounts for: missing, or without a delivery of their own."""
        return self.source_rows - sum(self.states.values())

    @property
    def lost(self) -> Mapping[str, int]:
        """Those rows, by kind → how many."""
        sharing = sum(
            doubt.count for doubt in self.discrepancies if doubt.kind == DiscrepancyKind.SHARED_KEY
        )
        found = {"missing": self.unaccounted - sharing, "sharing a key": sharing}
        return {name: count for name, count in found.items() if count}


def proof_of(certificate: Certificate) -> Proof:
    """A certificate, as a report holds it."""
    still_open = sum(certificate.states.get(state, 0) for state in OPEN_STATES)
    settled = (State.DELIVERED, State.DEAD, State.SKIPPED, State.CANCELLED)
    states = {state.value: certificate.states.get(state, 0) for state in settled} | {
        "open": still_open
    }
    return Proof(
        feed=certificate.feed,
        at=certificate.at,
        position=json.dumps(certificate.position, ensure_ascii=False),
        complete=certificate.complete,
        source_rows=certificate.source_rows,
        states=states,
        missing=certificate.missing,
        missing_ids=certificate.missing_ids,
        healed=certificate.healed,
        deleted=certificate.deleted,
        purged=certificate.purged,
        awaited=certificate.awaited,
        by_key=certificate.by_key,
        discrepancies=tuple(
            Doubt(found.kind.value, found.count, found.ids, found.said)
            for found in certificate.discrepancies
        ),
    )
