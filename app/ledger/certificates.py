"""`certificates`: one document a reconciliation, by feed and the moment it ended.

    {_id: "<feed>|<at>", feed, at, begun_at, position, since, source_rows, states {<state>: n}, missing, missing_ids,
     healed, deleted, deleted_states {<state>: n}, superseded, purged, awaited, by_key,
     acknowledged, discrepancies [{kind, count, ids, note, more}]}

They are never changed; a day adds one a feed. Those of a part of a feed (`since`) are kept too, as
a record of what was found; what is asked for is the certificate of all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.states import State
from app.ledger.client import Collection, Database, Document, query
from app.ledger.ids import ids_under
from app.ledger.indexes import BY_ID


class Certificates:
    """Every query on `certificates`."""

    def __init__(self, database: Database) -> None:
        self._collection: Collection = database["certificates"]

    @query
    async def save(self, certificate: Certificate) -> None:
        """Keep a certificate. Saving it again changes nothing."""
        document = _document(certificate)
        await self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    @query
    async def latest(self, feed: str) -> Certificate | None:
        """The feed's last certificate, of all of it; `None` where it was never reconciled."""
        return await self._last(ids_under(f"{feed}|"))

    @query
    async def at_or_before(self, feed: str, moment: datetime) -> Certificate | None:
        """The feed's last certificate, of all of it, of that moment or before."""
        return await self._last(ids_under(f"{feed}|") | {"$lte": certificate_id(feed, moment)})

    @query
    async def first_begun_since(self, feed: str, moment: datetime) -> Certificate | None:
        """The feed's first certificate, of all of it, whose comparison began at that moment or
        after.
        """
        ids = ids_under(f"{feed}|") | {"$gte": certificate_id(feed, moment)}
        return await self._one({"_id": ids, "since": None, "begun_at": {"$gte": moment}}, 1)

    @query
    async def page(self, feed: str, before: datetime | None, size: int) -> list[Certificate]:
        """The feed's certificates before that moment, those of a part of it too, the latest first."""
        ids = ids_under(f"{feed}|")
        if before:
            ids |= {"$lt": certificate_id(feed, before)}
        found = self._collection.find({"_id": ids}).hint(BY_ID).sort("_id", -1).limit(size)
        return [_certificate(document) for document in await found.to_list()]

    async def _last(self, ids: Document) -> Certificate | None:
        """The one with the highest id in the range."""
        return await self._one({"_id": ids, "since": None}, -1)

    async def _one(self, wanted: Document, direction: int) -> Certificate | None:
        found = self._collection.find(wanted).sort("_id", direction).limit(1)
        return next(map(_certificate, await found.to_list()), None)


def certificate_id(feed: str, moment: datetime) -> str:
    """The id of the feed's certificate of that moment. In the order of time, to the millisecond."""
    return f"{feed}|{moment.astimezone(UTC).isoformat(timespec='milliseconds')}"


def _document(certificate: Certificate) -> Document:
    return {
        "_id": certificate_id(certificate.feed, certificate.at),
        "feed": certificate.feed,
        "at": certificate.at,
        "begun_at": certificate.begun_at,
        "position": certificate.position,
        "since": certificate.since,
        "source_rows": certificate.source_rows,
        "states": _by_name(certificate.states),
        "missing": certificate.missing,
        "missing_ids": list(certificate.missing_ids),
        "healed": certificate.healed,
        "deleted": certificate.deleted,
        "deleted_states": _by_name(certificate.deleted_states),
        "superseded": certificate.superseded,
        "purged": certificate.purged,
        "awaited": certificate.awaited,
        "by_key": certificate.by_key,
        "acknowledged": certificate.acknowledged,
        "discrepancies": [
            asdict(found) | {"kind": found.kind.value, "ids": list(found.ids)}
            for found in certificate.discrepancies
        ],
    }


def _certificate(document: Document) -> Certificate:
    known = {name: value for name, value in document.items() if name != "_id"}
    return Certificate(**known | {
        "states": _by_state(document["states"]),
        "deleted_states": _by_state(document["deleted_states"]),
        "missing_ids": tuple(document["missing_ids"]),
        "discrepancies": tuple(map(_discrepancy, document.get("discrepancies", ()))),
    })  # fmt: skip


def _discrepancy(document: Document) -> Discrepancy:
    return Discrepancy(
        **document | {"kind": DiscrepancyKind(document["kind"]), "ids": tuple(document["ids"])}
    )


def _by_name(states: Mapping[State, int]) -> dict[str, int]:
    return {state.value: count for state, count in states.items()}


def _by_state(states: Mapping[str, int]) -> dict[State, int]:
    return {State(name): count for name, count in states.items()}
