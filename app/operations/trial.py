"""One row of a feed, tried on an operator's word: what would be sent; and, where asked, what the
partner answers.

A trial is a real request: it goes through the same client, under the row's own `Idempotency-Key`,
and through the endpoint's throttle, which all workers share: it hears of a wait the partner asks
for, and of a failure. What it leaves out is the ledger: nothing is recorded, so a row that the
partner took is sent again in its turn, under the same key, and a feed that is paused stays so.

With `record` it is an attempt of its delivery, by the rules of `app/delivery/deliver.py` alone: the
row goes in a batch that we hold, its result is written as any other, and may retry, kill or deliver
the row, and pause the feed. A delivery that is settled is not touched (`replay` does that), nor one
of a paused feed. Dying between any two steps leaves:

1. after a batch of its own is inserted for a row that waits for a retry: a batch that its delivery
   does not name, and that whoever claims it deletes;
2. after the row is moved into it, or its batch is claimed: what a worker that dies leaves.

Either way a row that a worker holds, or held when it died, is not sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from app.core.attempts import Answer, Outcome, Result, Ruling, Verdict
from app.core.clock import Clock, utc_now
from app.core.deliveries import Delivery
from app.core.states import OPEN_STATES, State
from app.delivery.deliver import Delivering
from app.delivery.policy import OF_THE_ROW, judge
from app.delivery.refusals import Refusals
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.client import Document
from app.operations.by import By
from app.partner.client import KEPT_HEADERS, PartnerClient
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles
from app.reads.subject import Subject

log = structlog.get_logger()

SHOWN_HEADERS = (
    *KEPT_HEADERS, "allow", "content-encoding", "content-length", "date", "location", "request-id", "server",
    "www-authenticate", "x-correlation-id", "x-request-id",
)  # fmt: skip
"""What of an answer's headers tells an operator something."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial."""

    unsent: str | None = None
    """Why nothing was sent."""
    answer: Answer | None = None
    verdict: Verdict | None = None
    recorded: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the verdict is that the partner has the row."""
        return self.verdict is not None and self.verdict.outcome is Outcome.DELIVERED


def _replay(subject: Subject) -> str:
    """The command that makes an attempt of it owed again, where there is one."""
    if subject.state is State.SKIPPED:
        return ""
    state = "" if subject.state is State.DEAD else f" --state {subject.state}"
    return f" (python -m app replay {shlex.quote(subject.delivery.id)}{state})"


class Trial:
    """Sends one row for an operator."""

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        client: PartnerClient,
        throttles: Throttles,
        *,
        settings: DeliverySettings,
        now: Clock = utc_now,
    ) -> None:
        """`client` was made with `SHOWN_HEADERS` and these throttles. `settings`: of a worker; an
        attempt that is recorded is the operator's.
        """
        self._feed = feed
        self._ledger = ledger
        self._client = client
        self._throttles = throttles
        self._settings = settings
        self._now = now

    async def send(self, subject: Subject) -> Tried:
        """Send it, and say what would follow. Raises the ledger's errors; nothing the partner does
        raises.
        """
        throttle = await self._throttles.of(self._feed)
        if why := await self._hindrance(subject, throttle):
            return Tried(why)
        async with throttle.slots:
            if until := await throttle.admit():
                return Tried(self._quiet(throttle, until))
            answer = await self._client.send(self._feed, subject.delivery)
        return Tried(None, answer, await self._verdict(subject.delivery, answer, throttle))

    async def record(self, subject: Subject, by: By, begun: Callable[[Delivering], None]) -> Tried:
        """Send it as an attempt of its delivery, which names who had it sent. `begun`: told of what
        sends, which can be drained. Raises as `send` does.
        """
        throttle = await self._throttles.of(self._feed)
        why = await self._hindrance(subject, throttle) or await self._unrecordable(subject)
        batch = None if why or subject.document is None else await self._batch(subject.document)
        if batch is None:
            return Tried(why or "it changed meanwhile: look at it again")
        results: list[Result] = []
        delivering = Delivering(
            self._ledger,
            self._client,
            replace(self._settings, worker=f"{by.who} (feeds test)"),
            throttles=self._throttles,
            seen=results.append,
        )
        log.info("row_tried", delivery=subject.delivery.id, by=by.who, why=by.why)
        begun(delivering)
        await delivering.deliver(self._feed, batch, only=subject.delivery.id)
        if not results:
            return Tried(
                "a worker was faster, or the endpoint's throttle stopped it: the row is on its way as ever"
            )
        result = results[0]
        return Tried(
            None, result.answer, result.verdict, recorded=result.answer.ruling is not Ruling.OURS
        )

    async def _batch(self, document: Document) -> str | None:
        """The batch that the row is in; for one that waits for a retry, a batch of its own. `None`:
        it has moved on.
        """
        if document["state"] == State.QUEUED.value:
            return str(document["batch"])
        batch = new_batch(self._feed.name, [document["_id"]])
        await self._ledger.batches.insert([batch], self._now() + self._settings.lease)
        moved = await self._ledger.requeueing.requeue_due(batch, document["next_attempt_at"])
        return batch.id if moved else None

    async def _hindrance(self, subject: Subject, throttle: EndpointThrottle) -> str | None:
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
        until = throttle.parked_until()
        return self._quiet(throttle, until) if until else None

    async def _unrecordable(self, subject: Subject) -> str | None:
        """Why no attempt of the row may be recorded."""
        if subject.state is None:
            return "it is not in the ledger yet, so there is nothing to record it with: wait for the poll"
        if subject.state not in OPEN_STATES:
            return f"it is {subject.state.value}: no attempt of it is owed{_replay(subject)}"
        if self._feed.name in await self._ledger.pauses.paused():
            resume = f"python -m app feeds resume {self._feed.name}"
            return f"the feed is paused: nothing of it is sent for the record ({resume})"
        return None

    def _quiet(self, throttle: EndpointThrottle, until: datetime) -> str:
        seconds = max(0.0, (until - self._now()).total_seconds())
        return f"the endpoint is left alone for {seconds:.0f} s more: {throttle.quiet_because()}"

    async def _verdict(
        self, delivery: Delivery, answer: Answer, throttle: EndpointThrottle
    ) -> Verdict:
        """What would follow, had a worker sent it. The endpoint's throttle hears of it as it would
        from a worker.
        """
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
            throttle.hold(verdict.hold_until)
        if answer.ruling is not Ruling.OURS:
            await throttle.report([answer])
        group = [Result(delivery, answer, verdict)]
        return (await Refusals(self._ledger).reconsider(self._feed, group, now, counting=False))[
            0
        ].verdict
