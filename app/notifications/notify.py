"""Notifies people of events: once each, with reminders and an all-clear, through the ledger.

One check, by the process whose turn it is:

1. find the events that are on (`app/notifications/conditions.py`);
2. record each new event under its own id, so that of two processes one does;
3. owe its message (it began, it is still on, it is over) by a conditional update on the number of
   the last message, so that of two processes one does;
4. send what is owed, every way, until each has taken it (`app/sending/outbox.py`).

When a process dies after step 2 or 3, the next check continues from the record. When it dies while
sending, the message is sent again under the same id, after `PATIENCE.claimed_for`. So people may be
told twice, but never not at all.

An event is over when it was not found for `OVER_AFTER`, so that one which comes and goes is told
once. While Redis is away nothing is known of breakers, and none counts as closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from app.core.clock import AGREED, Clock, utc_now
from app.core.events import Event, Found
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.notifications import Message
from app.notifications.conditions import Conditions
from app.notifications.notification import Form, Notification
from app.sending.outbox import Outbox, RetrySchedule
from app.sending.outgoing import Sender

log = structlog.get_logger()

CHECK_EVERY = timedelta(seconds=30)
"""How often beat asks for a check."""
STAND_IN_AFTER = 4 * CHECK_EVERY
"""After this long without a check, any process that notices makes one."""
OVER_AFTER = timedelta(minutes=3)
KEPT = timedelta(days=7)
"""How long an event stays on record once it is over, and its all-clear is tried."""
PATIENCE = RetrySchedule(
    first_wait=timedelta(minutes=1),
    longest_wait=timedelta(minutes=15),
    claimed_for=timedelta(minutes=2),
)
HOLD = {
    Event.NONE_RUNS: timedelta(minutes=2),
    Event.REDIS_AWAY: timedelta(minutes=2),
    Event.FEED_NOT_READ: timedelta(minutes=5),
}
"""How long an event must be on before it is told: a restart, or a brief outage, is no news."""


class Notifying:
    """Checks, and notifies, for one process."""

    def __init__(
        self,
        ledger: Ledger,
        conditions: Conditions,
        senders: Sequence[Sender],
        form: Form,
        *,
        remind: timedelta,
        zone: ZoneInfo,
        now: Clock = utc_now,
    ) -> None:
        """`form`: the webhook's format. `remind`: how long after a message the reminder follows."""
        self._ledger = ledger
        self._conditions = conditions
        self._remind = remind
        self._zone = zone
        self._form = form
        self._now = now
        self._outbox = Outbox(
            ledger.notifications,
            senders,
            PATIENCE,
            lambda stored: Notification(stored, zone, form),
            now=now,
            what="notification",
        )

    async def check_if_due(self, apart: timedelta = CHECK_EVERY / 2) -> bool:
        """Check and notify, unless a process has within `apart`. Returns whether this one did.
        Raises the ledger's errors.
        """
        if not await self._ledger.notifications.take_turn(self._now(), apart):
            return False
        await self.check()
        return True

    async def check(self) -> None:
        """Check and notify. Raises the ledger's errors."""
        await self._note()
        await self._outbox.send_due()

    async def try_out(self) -> dict[str, str | None]:
        """Send a test message every way. Returns way → why it was not taken, or `None`."""
        now = self._now()
        said = {
            "_id": "test",
            "event": None,
            "subject": "test",
            "said": "somebody asked for this message",
            "began_at": now,
        }
        trial = Notification(
            said | {"message": {"kind": Message.BEGAN.value, "number": 1, "at": now}},
            self._zone,
            self._form,
        )
        return {way: await self._outbox.tried(way, trial) for way in self._outbox.ways}

    async def _note(self) -> None:
        """Record which events are on and which are over, and owe the messages."""
        now = self._now()
        seen = await self._conditions.read(now)
        kept = {stored["_id"]: stored for stored in await self._ledger.notifications.kept()}
        for found in seen.found:
            await self._note_found(found, kept.pop(found.id, None), now)
        for stored in kept.values():
            known = stored["event"] not in seen.unknown and not stored.get("over_at")
            if (
                known
                and _gone(stored, now)
                and await self._ledger.notifications.end(stored, self._outbox.ways, now)
            ):
                log.info("event_over", event_id=stored["_id"])
        await self._ledger.notifications.forget(now - KEPT)

    async def _note_found(self, found: Found, stored: Document | None, now: datetime) -> None:
        notifications = self._ledger.notifications
        if stored is None or stored.get("over_at"):
            stored = await notifications.begin(found, now)
            if stored is None:  # another process was faster, and continues
                return
            log.warning("event_began", event_id=found.id, said=found.said)
        else:
            await notifications.see(found, now)
        if message := self._due(found.event, stored, now):
            await notifications.say(stored, message, self._outbox.ways, now, now + self._remind)

    def _due(self, event: Event, stored: Document, now: datetime) -> Message | None:
        """The message that is due now, if any. A time too far ahead was written by a wrong clock."""
        if not stored["told"]:
            held = now - stored["began_at"]
            return Message.BEGAN if held >= HOLD.get(event, timedelta()) or held < -AGREED else None
        wait = stored["remind_at"] - now
        return Message.REMINDER if wait <= timedelta() or wait > self._remind + AGREED else None


def _gone(stored: Document, now: datetime) -> bool:
    unseen = now - stored["seen_at"]
    return bool(unseen > OVER_AFTER or unseen < -AGREED)
