"""The row that a preview or a trial is about: as it was logged, or as it is in the source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from app.core.deliveries import Delivery
from app.core.errors import AmbiguousKey, SourceRefused
from app.core.keys import readings, shown_id
from app.core.rows import Columns, SourceRow
from app.core.states import State
from app.feeds.feed import Feed
from app.feeds.filter import sift
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.delivery_documents import delivery_id as id_of
from app.ledger.delivery_documents import delivery_of
from app.reads.lookup import look_up
from app.reads.row_finder import RowFinder
from app.source.lookup import Found

READINGS = 8
"""Of a typed key, that are looked for in the source: each is a statement."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The row that is tried."""

    delivery: Delivery
    """As it is on record, or as it would be once it is logged."""
    found_in: str
    """`ledger` or `source`."""
    document: Document | None
    """Its record; `None`: it is not logged."""
    unsent: str | None = None
    """Why no worker would send it."""
    error: str | None = None
    """Why it would be a dead letter as soon as it is logged."""

    @property
    def shown(self) -> str:
        """Its delivery's id as a person reads it."""
        return shown_id(
            {"_id": self.delivery.id, "feed": self.delivery.feed, "key": self.delivery.key}
        )

    @property
    def state(self) -> State | None:
        """Where its delivery stands; `None`: it is not logged."""
        return State(self.document["state"]) if self.document else None


async def find_subject(
    feed: Feed, ledger: Ledger, source: RowFinder, key: str | None, now: datetime
) -> Subject | None:
    """The row of that key, as people write it, or the delivery of that id: as it was logged, where
    that is on record, else as it is in the source; without a key the newest that the feed would
    send. `None` where there is none. Of a row with several changes on record, the one that it is
    now; where the source has it no more, the latest.

    Raises `AmbiguousKey`, and the errors of the ledger and the source.
    """
    documents, exact = ([], False) if key is None else await _on_record(feed, ledger, key)
    document = documents[0] if exact else None
    if document and document.get("payload"):
        return _as_logged(feed, document)
    agreed = (await ledger.cursors.get(feed.name)).columns
    if key is None:
        newest = await newest_row(feed, source, agreed)
        found = Found(newest, read=True) if newest else None
    else:
        found = await _in_source(feed, source, documents[0]["key"] if documents else key, agreed)
    if found:
        document = document or await ledger.deliveries.get(id_of(feed.name, found.row))
        if document is None or not document.get("payload"):
            return of_source(feed, found.row, now, document, read=found.read)
        return _as_logged(feed, document)
    kept = [one for one in documents if one.get("payload")]
    return _as_logged(feed, kept[-1]) if kept else None


def _as_logged(feed: Feed, document: Document) -> Subject:
    """A delivery that has its payload."""
    logged = SourceRow(document["key"], document["position"], document["payload"])
    unsent, error = _sifted(feed, logged)
    return Subject(delivery_of(document), "ledger", document, unsent, error)


async def _on_record(feed: Feed, ledger: Ledger, key: str) -> tuple[list[Document], bool]:
    """The delivery of that key or id; or all changes on record of a row, the latest last. And
    whether the text names the one delivery exactly. Raises `AmbiguousKey`."""
    found = await look_up(ledger, key, (), feed.name)
    documents = [one for known in found.ids if (one := await ledger.deliveries.get(known))]
    if len({one["key"] for one in documents}) > 1:
        raise AmbiguousKey(key, found.ids)
    return sorted(documents, key=lambda one: one["created_at"]), len(documents) == 1 and found.exact


async def _in_source(feed: Feed, source: RowFinder, key: str, agreed: Columns) -> Found | None:
    """The row of that key, as people write it. Raises the source's errors; where no reading of the
    text can be a key of the feed, that of the first."""
    refused: SourceRefused | None = None
    looked = False
    texts = dict.fromkeys((key.removeprefix(f"{feed.name}:"), key))
    for reading in islice(chain.from_iterable(map(readings, texts)), READINGS):
        try:
            found = await source.find(feed, reading, agreed)
        except SourceRefused as error:
            refused = refused or error
            continue
        looked = True
        if found:
            return found
    if refused and not looked:
        raise refused
    return None


async def newest_row(feed: Feed, source: RowFinder, agreed: Columns) -> SourceRow | None:
    """The newest row that the feed's filter does not skip; where it skips all that were looked at,
    the newest.

    `agreed`: the cursor's `columns`.
    """
    rows = await source.latest(feed, agreed)
    return next(iter(sift(feed.filter, rows).sent or rows), None)


def of_source(
    feed: Feed,
    row: SourceRow,
    now: datetime,
    document: Document | None = None,
    *,
    read: bool = True,
) -> Subject:
    """A row of the source, and what is on record of it. `read`: polls give it."""
    unsent, error = _sifted(feed, row)
    if not read:
        unsent = "where: the feed's conditions leave it out, or its cursor column is NULL: no poll reads it"
    if document and document["_id"] != id_of(feed.name, row):
        unsent = "its payload is gone, and its row has changed since: that change is a delivery of its own"
    delivery = Delivery(id_of(feed.name, row), feed.name, row.key, row.payload, created_at=now)
    if document:  # its payload was dropped; the rest is on record
        delivery = delivery_of(document | {"payload": row.payload})
    return Subject(delivery, "source", document, unsent, error)


def _sifted(feed: Feed, row: SourceRow) -> tuple[str | None, str | None]:
    """Why the row is not sent: it is skipped, or it is a dead letter."""
    sifted = sift(feed.filter, [row])
    return (
        next((reason for _, reason in sifted.skipped), None),
        next((unreadable.error for unreadable in sifted.unreadable), None),
    )
