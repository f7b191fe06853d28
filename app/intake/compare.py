"""Compares source rows with the ledger: by key, by position, and by content. Pure functions.

A row belongs to its delivery where both agree on content, and on where the row was last seen. A row
that does not is a suspect at first: it may have been updated during the comparison, or a poll may
have noted it elsewhere. Suspects that remain when both sides have been read again are classified by
how many rows the source has under their key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.certificates import MISSING_NAMED, Discrepancy, DiscrepancyKind
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger.audit import Fact
from app.ledger.delivery_documents import delivery_id, place_hash


@dataclass(slots=True)
class Compared:
    """The rows of a window, by how they compare."""

    own: list[tuple[SourceRow, Fact]] = field(default_factory=list)
    """Each with its delivery."""
    suspects: list[SourceRow] = field(default_factory=list)
    """With other content or position than their delivery, or not alone under its id."""
    absent: dict[str, SourceRow] = field(default_factory=dict)
    """Without a delivery, by the id it would have: the first row of each id."""

    @property
    def rows(self) -> list[SourceRow]:
        """All of them."""
        return [*(row for row, _ in self.own), *self.absent.values(), *self.suspects]

    @property
    def by_key(self) -> int:
        """Rows whose delivery has no content hash to compare; dead ones were never sent."""
        return sum(
            fact.content is None and fact.state is not State.DEAD and not row.error
            for row, fact in self.own
        )


def hash_sum(rows: Iterable[SourceRow]) -> int:
    """What the ledger's sum over these rows' deliveries must be, if nothing differs."""
    return sum((row.content or 0) + place_hash(row.position) for row in rows)


def compare(feed: str, rows: Sequence[SourceRow], facts: Mapping[str, Fact]) -> Compared:
    """Compare the rows with what is known of their deliveries, by id."""
    compared, taken = Compared(), set[str]()
    for row in rows:
        known = delivery_id(feed, row)
        fact = facts.get(known)
        if known in taken or known in compared.absent:
            compared.suspects.append(row)
        elif fact is None:
            compared.absent[known] = row
        elif agree(row, fact):
            taken.add(known)
            compared.own.append((row, fact))
        else:
            compared.suspects.append(row)
    return compared


def agree(row: SourceRow, fact: Fact) -> bool:
    """Whether the row can be the one that was logged, unchanged."""
    return not changed(row, fact) and (row.error is not None or row.position == fact.position)


def changed(row: SourceRow, fact: Fact) -> bool:
    """Whether the row's content differs from what was logged."""
    return fact.content is not None and row.content != fact.content


def still_there(
    feed: str, suspects: Sequence[SourceRow], again: Sequence[SourceRow]
) -> list[SourceRow]:
    """The suspects that a second reading returns at the same place, with the content that they have
    by then: a row that is written all the time is one, too.
    """
    found: dict[str, list[SourceRow]] = {}
    for row in again:
        found.setdefault(delivery_id(feed, row), []).append(row)
    there = (_as_found(row, found.get(delivery_id(feed, row), ())) for row in suspects)
    return [row for row in there if row is not None]


def _as_found(suspect: SourceRow, rows: Sequence[SourceRow]) -> SourceRow | None:
    """What the suspect is among the rows that have its id; `None`: it is not there any more."""
    if suspect in rows:
        return suspect
    return rows[0] if len(rows) == 1 and rows[0].position == suspect.position else None


def sharing(
    feed: str,
    suspects: Sequence[SourceRow],
    window: Sequence[SourceRow],
    found: Iterable[SourceRow],
    facts: Mapping[str, Fact],
) -> list[SourceRow]:
    """The suspects whose id another row shares: in the window, or found by key (`found`).

    One of the rows that share an id owns the delivery: the one it agrees with, or else one with the
    same content.
    """
    times = Counter(delivery_id(feed, row) for row in window)
    alike: dict[str, dict[int, SourceRow]] = {}
    for row in [*window, *found]:
        alike.setdefault(delivery_id(feed, row), {})[place_hash(row.position)] = row

    def shares(row: SourceRow) -> bool:
        known = delivery_id(feed, row)
        places, fact = alike[known], facts.get(known)
        if len(places) == 1:
            return times[known] > 1
        return fact is None or place_hash(row.position) != _owner(places, fact)

    return [row for row in suspects if shares(row)]


def _owner(places: Mapping[int, SourceRow], fact: Fact) -> int | None:
    """The place of the row that owns the delivery; `None` where none holds what was logged."""
    if (seen := places.get(place_hash(fact.position))) and not changed(seen, fact):
        return place_hash(fact.position)
    return min((place for place, row in places.items() if not changed(row, fact)), default=None)


def clashes(
    feed: str, rows: Sequence[SourceRow], facts: Mapping[str, Fact], *, moving: bool
) -> Iterator[Discrepancy]:
    """Discrepancies between rows that a poll read and what the ledger already has under their ids.

    `moving`: an update moves a row, so only two places within one page prove that two rows share a
    key.
    """
    by_id: dict[str, list[SourceRow]] = {}
    for row in rows:
        if not row.error:
            by_id.setdefault(delivery_id(feed, row), []).append(row)
    shared, other = list[str](), list[str]()
    for known, alike in by_id.items():
        fact = facts.get(known)
        places = {place_hash(row.position) for row in alike}
        if fact is not None and not moving:
            places.add(place_hash(fact.position))
        if len(places) > 1:
            shared.append(known)
        elif len({row.content for row in alike}) > 1 or (
            fact is not None and not moving and changed(alike[0], fact)
        ):
            other.append(known)
    for kind, ids in ((DiscrepancyKind.SHARED_KEY, shared), (DiscrepancyKind.CHANGED, other)):
        if ids:
            yield Discrepancy(kind, len(ids), tuple(ids[:MISSING_NAMED]))


def several(feed: str, rows: Iterable[SourceRow]) -> list[str]:
    """The ids that several of the rows share, at different places."""
    places: dict[str, set[int]] = {}
    for row in rows:
        places.setdefault(delivery_id(feed, row), set()).add(place_hash(row.position))
    return [known for known, found in places.items() if len(found) > 1]
