"""One row of a feed, tried on an operator's word: what would be sent; and, where asked, what the partner answers.

A trial is a real request: it goes by the same client, under the row's own `Idempotency-Key`, and by the endpoint's
clock of all workers, which hears what the partner asks us to wait, and whether it failed. What it leaves out is the
ledger: nothing is recorded, so a row that the partner took is sent again in its turn, under the same key, and a feed
that is paused stays so.

With `record` it is an attempt of its delivery, by the rules of `deliver.py` alone: the row goes in a batch that we
hold, its result is written as any other, and may retry, kill or deliver the row, and pause the feed. A delivery that is
settled is not touched (`replay` does that), nor one of a paused feed. Dying between any two steps leaves:

1. after a batch of its own is inserted for a row that waits for a retry: a batch that its delivery does not name, and
   that whoever claims it deletes;
2. after the row is moved into it, or its batch is claimed: what a worker that dies leaves.

Either way a row that a worker holds, or held when it died, is not sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from app.core.attempts import Answer, Outcome, Result, Ruling, Verdict
from app.core.clock import Clock, utc_now
from app.core.deliveries import Delivery
from app.core.errors import AmbiguousKey, SourceRefused
from app.core.keys import readings, shown_id
from app.core.rows import Columns, SourceRow
from app.core.states import OPEN_STATES, State
from app.delivery.deliver import Delivering, DeliverySettings
from app.delivery.policy import OF_THE_ROW, judge
from app.delivery.refusals import Refusals
from app.feeds.feed import Feed
from app.feeds.filter import sift
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.client import Document
from app.ledger.delivery_documents import delivery_id as id_of
from app.ledger.delivery_documents import delivery_of
from app.operations.row_finder import RowFinder
from app.partner.client import KEPT_HEADERS, PartnerClient
from app.partner.throttle.throttle import EndpointThrottle, Throttles
from app.reads.lookup import look_up
from app.source.lookup import Found

SHOWN_HEADERS = (
    *KEPT_HEADERS, "allow", "content-encoding", "content-length", "date", "location", "request-id", "server",
    "www-authenticate", "x-correlation-id", "x-request-id",
)  # fmt: skip
"""What of an answer's headers tells an operator something."""


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
        return shown_id({"_id": self.delivery.id, "feed": self.delivery.feed, "key": self.delivery.key})

    @property
    def state(self) -> State | None:
        """Where its delivery stands; `None`: it is not logged."""
        return State(self.document["state"]) if self.document else None


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial."""

    refused: str | None = None
    """Why nothing was sent."""
    answer: Answer | None = None
    verdict: Verdict | None = None
    recorded: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the verdict is that the partner has the row."""
        return self.verdict is not None and self.verdict.outcome is Outcome.DELIVERED


async def find_subject(feed: Feed, ledger: Ledger, source: RowFinder, key: str | None, now: datetime) -> Subject | None:
    """The row of that key, as people write it, or the delivery of that id: as it was logged, where that is on record,
    else as it is in the source; without a key the newest that the feed would send. `None` where there is none. Of a
    row with several changes on record, the one that it is now; where the source has it no more, the latest.

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
    """The delivery of that key or id; or all changes on record of a row, the latest last. And whether the text names
    the one delivery exactly. Raises `AmbiguousKey`."""
    found = await look_up(ledger, key, (), feed.name)
    documents = [one for known in found.ids if (one := await ledger.deliveries.get(known))]
    if len({one["key"] for one in documents}) > 1:
        raise AmbiguousKey(key, found.ids)
    return sorted(documents, key=lambda one: one["created_at"]), len(documents) == 1 and found.exact


async def _in_source(feed: Feed, source: RowFinder, key: str, agreed: Columns) -> Found | None:
    """The row of that key, as people write it. Raises the source's errors; where no reading of the text can be a key of
    the feed, that of the first."""
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
    """The newest row that the feed's filter does not skip; where it skips all that were looked at, the newest.

    `agreed`: the cursor's `columns`.
    """
    rows = await source.latest(feed, agreed)
    return next(iter(sift(feed.filter, rows).sent or rows), None)


def of_source(
    feed: Feed, row: SourceRow, now: datetime, document: Document | None = None, *, read: bool = True
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


def _replay(subject: Subject) -> str:
    """The command that makes an attempt of it owed again, where there is one."""
    if subject.state is State.SKIPPED:
        return ""
    state = "" if subject.state is State.DEAD else f" --state {subject.state}"
    return f" (python -m app replay {shlex.quote(subject.delivery.id)}{state})"


class Trial:
    """Sends one row for an operator."""

    def __init__(
        self, feed: Feed, ledger: Ledger, client: PartnerClient, clocks: Throttles, now: Clock = utc_now
    ) -> None:
        """`client` was made with `SHOWN_HEADERS` and these clocks."""
        self._feed = feed
        self._ledger = ledger
        self._client = client
        self._clocks = clocks
        self._now = now

    async def send(self, subject: Subject) -> Tried:
        """Send it, and say what would follow. Raises the ledger's errors; nothing the partner does raises."""
        clock = await self._clocks.of(self._feed)
        if why := await self._hindrance(subject, clock):
            return Tried(why)
        async with clock.slots:
            if until := await clock.admit():
                return Tried(self._quiet(clock, until))
            answer = await self._client.send(self._feed, subject.delivery)
        return Tried(None, answer, await self._verdict(subject.delivery, answer, clock))

    async def record(self, subject: Subject, terms: DeliverySettings, begun: Callable[[Delivering], None]) -> Tried:
        """Send it as an attempt of its delivery. `terms`: who holds it, and for how long. `begun`: told of what sends,
        which can be drained. Raises as `send` does.
        """
        clock = await self._clocks.of(self._feed)
        why = await self._hindrance(subject, clock) or await self._unrecordable(subject)
        batch = None if why or subject.document is None else await self._batch(subject.document, terms)
        if batch is None:
            return Tried(why or "it changed meanwhile: look at it again")
        results: list[Result] = []
        delivering = Delivering(self._ledger, self._client, terms, clocks=self._clocks, seen=results.append)
        begun(delivering)
        await delivering.deliver(self._feed, batch, only=subject.delivery.id)
        if not results:
            return Tried("a worker was faster, or the endpoint's clock stopped it: the row is on its way as ever")
        result = results[0]
        return Tried(None, result.answer, result.verdict, recorded=result.answer.ruling is not Ruling.OURS)

    async def _batch(self, document: Document, terms: DeliverySettings) -> str | None:
        """The batch that the row is in; for one that waits for a retry, a batch of its own. `None`: it has moved on."""
        if document["state"] == State.QUEUED.value:
            return str(document["batch"])
        batch = new_batch(self._feed.name, [document["_id"]])
        await self._ledger.batches.insert([batch], self._now() + terms.lease)
        moved = await self._ledger.deliveries.requeue_due(batch, document["next_attempt_at"])
        return batch.id if moved else None

    async def _hindrance(self, subject: Subject, clock: EndpointThrottle) -> str | None:
        """Why the row must not be sent now."""
        if why := subject.unsent or subject.error:
            return why
        document = subject.document or {}
        batch = document.get("batch")
        if batch and await self._ledger.batches.held([batch]):
            return "a worker holds it, or held it when it died: it is being sent, or will be within LEASE"
        asked = document.get("last", {}).get("status") in OF_THE_ROW
        if asked and (again := document.get("next_attempt_at")) and again > self._now():
            return f"the partner asked to leave this row alone until {again:%Y-%m-%d %H:%M:%S} UTC"
        until = clock.parked_until()
        return self._quiet(clock, until) if until else None

    async def _unrecordable(self, subject: Subject) -> str | None:
        """Why no attempt of the row may be recorded."""
        if subject.state is None:
            return "it is not in the ledger yet, so there is nothing to record it with: wait for the poll"
        if subject.state not in OPEN_STATES:
            return f"it is {subject.state.value}: no attempt of it is owed{_replay(subject)}"
        if self._feed.name in await self._ledger.cursors.paused():
            resume = f"python -m app feeds resume {self._feed.name}"
            return f"the feed is paused: nothing of it is sent for the record ({resume})"
        return None

    def _quiet(self, clock: EndpointThrottle, until: datetime) -> str:
        seconds = max(0.0, (until - self._now()).total_seconds())
        return f"the endpoint is left alone for {seconds:.0f} s more: {clock.quiet_because()}"

    async def _verdict(self, delivery: Delivery, answer: Answer, clock: EndpointThrottle) -> Verdict:
        """What would follow, had a worker sent it. The endpoint's clock hears of it as it would from a worker."""
        now = self._now()
        verdict = judge(
            answer,
            attempt=delivery.attempts + 1,
            created_at=delivery.owed_since,
            policy=self._feed.retry,
            now=now,
            draw=lambda: 0.0,
            in_doubt=delivery.in_doubt,
        )
        if verdict.hold_until:
            clock.hold(verdict.hold_until)
        if answer.ruling is not Ruling.OURS:
            await clock.report([answer])
        group = [Result(delivery, answer, verdict)]
        return (await Refusals(self._ledger).reconsider(self._feed, group, now, counting=False))[0].verdict
