"""Tells people of events, once each, with reminders and an all-clear, through the ledger.

One look, by whoever's turn it is:

1. read what is on now (`app/notifications/conditions.py`);
2. each event that is new is put on record, under its own id: of two processes one does it;
3. what is to be said of it (that it began, that it is still on, that it is over) is owed by a conditional update on the
   number of the last message: of two processes one does it;
4. what is owed is sent, on every way, until each has taken it (`app/sending/outbox.py`).

A process that dies after step 2 or 3 leaves on record what the next look goes on with. One that dies while it sends has
it sent again under the same id, after `PATIENCE.claimed_for`. So an event may be told twice, and never not at all.

An event is over when it was not found for `OVER_AFTER`: what comes and goes is told once. While Redis is away nothing
is known of breakers, and none is taken for closed.
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

LOOK_EVERY = timedelta(seconds=30)
"""As beat has it done."""
STAND_IN_AFTER = 4 * LOOK_EVERY
"""When nobody has looked for so long, whoever notices does, whatever it is there for."""
OVER_AFTER = timedelta(minutes=3)
KEPT = timedelta(days=7)
"""How long an event that is over stays on record, and its all-clear is tried."""
PATIENCE = RetrySchedule(
    first_wait=timedelta(minutes=1), longest_wait=timedelta(minutes=15), claimed_for=timedelta(minutes=2)
)
HOLD = {
    Event.NONE_RUNS: timedelta(minutes=2),
    Event.REDIS_AWAY: timedelta(minutes=2),
    Event.FEED_NOT_READ: timedelta(minutes=5),
}
"""How long it must be on before anything is said: a restart, or a server that is away for a moment, is no news."""


class Notifying:
    """Looks, and tells, for one process."""

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
        """`form`: what the webhook takes. `remind`: how long after a message another says that it is still on."""
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

    async def look_if_due(self, apart: timedelta = LOOK_EVERY / 2) -> bool:
        """Look and tell, unless somebody has within `apart`. Returns whether we did. Raises the ledger's errors."""
        if not await self._ledger.notifications.take_turn(self._now(), apart):
            return False
        await self.look()
        return True

    async def look(self) -> None:
        """Look, and tell. Raises the ledger's errors."""
        await self._note()
        await self._outbox.send_due()

    async def try_out(self) -> dict[str, str | None]:
        """Send a message that is no event on every way. Returns way → why it was not taken, or `None`."""
        now = self._now()
        said = {
            "_id": "test",
            "event": None,
            "subject": "test",
            "said": "somebody asked for this message",
            "began_at": now,
        }
        trial = Notification(
            said | {"message": {"kind": Message.BEGAN.value, "number": 1, "at": now}}, self._zone, self._form
        )
        return {way: await self._outbox.tried(way, trial) for way in self._outbox.ways}

    async def _note(self) -> None:
        """Put on record what is on, what is over, and what is owed of it."""
        now = self._now()
        seen = await self._conditions.read(now)
        kept = {stored["_id"]: stored for stored in await self._ledger.notifications.kept()}
        for found in seen.found:
            await self._note_found(found, kept.pop(found.id, None), now)
        for stored in kept.values():
            known = stored["event"] not in seen.unknown and not stored.get("over_at")
            if known and _gone(stored, now) and await self._ledger.notifications.end(stored, self._outbox.ways, now):
                log.info("event_over", event_id=stored["_id"])
        await self._ledger.notifications.forget(now - KEPT)

    async def _note_found(self, found: Found, stored: Document | None, now: datetime) -> None:
        notifications = self._ledger.notifications
        if stored is None or stored.get("over_at"):
            stored = await notifications.begin(found, now)
            if stored is None:  # somebody was faster, and goes on with it
                return
            log.warning("event_began", event_id=found.id, said=found.said)
        else:
            await notifications.see(found, now)
        if message := self._due(found.event, stored, now):
            await notifications.say(stored, message, self._outbox.ways, now, now + self._remind)

    def _due(self, event: Event, stored: Document, now: datetime) -> Message | None:
        """What is to be said of it now. A moment that lies too far ahead was written under a wrong clock."""
        if not stored["told"]:
            held = now - stored["began_at"]
            return Message.BEGAN if held >= HOLD.get(event, timedelta()) or held < -AGREED else None
        wait = stored["remind_at"] - now
        return Message.REMINDER if wait <= timedelta() or wait > self._remind + AGREED else None


def _gone(stored: Document, now: datetime) -> bool:
    unseen = now - stored["seen_at"]
    return bool(unseen > OVER_AFTER or unseen < -AGREED)
