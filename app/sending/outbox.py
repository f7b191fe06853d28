"""Sends what the ledger owes to people, every configured way, until each has taken it.

A process may die between any two of these steps:

1. before the claim: the document is still owed, and the next process sends it;
2. after the claim, before or after sending: the claim ends after `claimed_for`, and the document is
   sent (again) under the same id. So it may be sent twice, but is never lost.

Of two processes at the same time one sends: the claim is one conditional update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.core.backoff import doubled
from app.core.clock import Clock
from app.ledger import outbox
from app.ledger.client import Document
from app.ledger.outbox import Sending
from app.sending.outgoing import NotSent, Outgoing, Sender

log = structlog.get_logger()

SENT_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How often, and for how long, a failed sending is retried."""

    first_wait: timedelta
    """After the first try; doubled each time."""
    longest_wait: timedelta
    tries: int | None = None
    """After so many it is given up; `None`: never."""
    claimed_for: timedelta = timedelta(minutes=5)
    """How long a process may take to send, before another tries."""

    def wait_after(self, tries: int) -> timedelta:
        """How long to wait after that many tries, 1 or more."""
        return doubled(self.first_wait, tries - 1, self.longest_wait)


class Outbox:
    """Sends the documents of one collection."""

    def __init__(
        self,
        kept: outbox.Outbox,
        senders: Sequence[Sender],
        patience: RetrySchedule,
        outgoing: Callable[[Document], Outgoing],
        *,
        now: Clock,
        what: str,
    ) -> None:
        """`outgoing`: what is sent of a document. `what`: its name in the log."""
        self._kept = kept
        self._senders = {sender.name: sender for sender in senders}
        self._patience = patience
        self._outgoing = outgoing
        self._now = now
        self._what = what

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of the ways of sending."""
        return tuple(self._senders)

    async def send_due(self) -> int:
        """Send what is owed, `SENT_AT_ONCE` at most. Returns how many were tried. Raises the
        ledger's errors.
        """
        due = await self._kept.owed(self._now(), SENT_AT_ONCE, self._patience.longest_wait)
        for stored in due:
            await self.send(stored)
        return len(due)

    async def send(self, stored: Document) -> dict[str, str | None]:
        """Send what is owed of a document, unless another process has claimed it. Returns way → why
        it failed, or `None`.
        """
        until = self._now() + self._patience.claimed_for
        if not await self._kept.claim(stored, until):
            return {}
        outgoing = self._outgoing(stored)
        came: dict[str, str | None] = {}
        next_tries: list[datetime] = []
        for way, sending in stored["sending"].items():
            if sending["state"] == Sending.OWED.value:
                came[way] = await self.tried(way, outgoing)
                next_tries += await self._note(
                    stored["_id"], until, way, sending["tries"] + 1, came[way]
                )
        await self._kept.next_try(stored["_id"], until, min(next_tries, default=None))
        return came

    async def tried(self, way: str, outgoing: Outgoing) -> str | None:
        """Try one way. Returns why it failed, or `None`."""
        sender = self._senders.get(way)
        failed: str | None = None
        try:
            if sender:
                await sender.send(outgoing)
            else:
                failed = f"{way}: not configured any more"
        except NotSent as error:
            failed = str(error)
        except Exception as error:  # the other ways must not wait for it
            log.exception(
                "sending_failed",
                what=self._what,
                id=outgoing.id,
                way=way,
                kind=type(error).__name__,
            )
            failed = f"{way}: {type(error).__name__}: not foreseen; see sending_failed in the log"
        if failed:
            log.warning("not_sent", what=self._what, id=outgoing.id, way=way, error=failed)
        else:
            log.info("sent", what=self._what, id=outgoing.id, way=way)
        return failed

    async def _note(
        self, document_id: str, claimed_until: datetime, way: str, tries: int, error: str | None
    ) -> list[datetime]:
        """Record the outcome of a try. Returns when the next one is due, or nothing."""
        now = self._now()
        if error is None:
            await self._kept.note_sent(document_id, claimed_until, way, now)
            return []
        give_up = self._patience.tries is not None and tries >= self._patience.tries
        await self._kept.note_failed(document_id, claimed_until, way, error, now, give_up=give_up)
        if give_up:
            log.error("given_up", what=self._what, id=document_id, way=way, tries=tries)
            return []
        return [now + self._patience.wait_after(tries)]
