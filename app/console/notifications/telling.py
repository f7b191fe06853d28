"""Tells each user of the events that they chose: once, with reminders and an all-clear.

Every half minute: what is on is compared with what is on record for the user; what is owed is recorded; and
sent, unless it is quiet. A console that stops in between goes on from the record. A message that is not taken
is tried again, a minute later, then less often. A message that waited through quiet hours until its event was
over is not sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import structlog

from app.console.errors import Conflict, Invalid
from app.console.notifications.channels import tried, way_of
from app.console.notifications.detection import Detection
from app.console.notifications.repository import NotificationRepository
from app.console.security.sealing import Sealing
from app.console.store.store import Store
from app.console.store.tables import NotificationSent, NotificationSettings
from app.core.clock import Clock, utc_now
from app.core.events import Event, Found
from app.ledger import Ledger
from app.ledger.notifications import Message
from app.notifications.conditions import Conditions, Limits
from app.notifications.notification import Form, Notification
from app.notifications.notify import KEPT, OVER_AFTER, PATIENCE
from config import Settings

log = structlog.get_logger()

EVERY_SECONDS = 30.0
AT_ONCE = 10
"""Users who are told at once: a webhook that does not answer takes half a minute."""
LIMITED = frozenset({Event.DEAD_LETTERS, Event.OLDEST_OPEN})
"""What depends on each user's own limits, so that the installation's record does not say it."""
OF_NO_FEED = frozenset({Event.NO_PROGRESS, Event.REDIS_AWAY, Event.NONE_RUNS})


@dataclass(frozen=True, slots=True)
class On:
    """An event that is on for a user."""

    found: Found
    began_at: datetime


class Telling:
    """Tells all users. On one event loop."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        conditions: Conditions,
        detection: Detection,
        settings: Settings,
        sealing: Sealing,
        now: Clock = utc_now,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._conditions = conditions
        self._detection = detection
        self._settings = settings
        self._sealing = sealing
        self._now = now
        self._free = asyncio.Semaphore(AT_ONCE)

    async def tell(self) -> int:
        """One round, if there is anybody to tell; returns how many messages were taken. Raises the
        errors of ledger and store."""
        async with self._store.reading() as session:
            users = await NotificationRepository(session).told()
        if not users:
            return 0
        await self._detection.check()
        recorded = [
            On(Found(Event(one["event"]), one["subject"], one["said"]), one["began_at"])
            for one in await self._ledger.notifications.kept()
            if one["told"] and not one.get("over_at") and one["event"] in set(Event)
        ]
        limited: dict[Limits, Sequence[Found]] = {}
        on = [await self._on(kept, recorded, limited) for kept in users]
        taken = sum(await asyncio.gather(*map(self._tell, users, on)))
        async with self._store.writing() as session:
            await NotificationRepository(session).forget(self._now() - KEPT)
        return taken

    async def _on(
        self,
        kept: NotificationSettings,
        recorded: Sequence[On],
        limited: dict[Limits, Sequence[Found]],
    ) -> list[On]:
        """What is on for that user."""
        limits = Limits(
            kept.dead_above,
            timedelta(seconds=kept.oldest_above_seconds),
            "your setting",
            "your setting",
        )
        now = self._now()
        if limits not in limited:
            limited[limits] = await self._conditions.above(limits, now)
        on = [one for one in recorded if one.found.event not in LIMITED]
        on += [On(found, now) for found in limited[limits]]
        return [one for one in on if wanted(kept, one.found.event, one.found.subject)]

    async def _tell(self, kept: NotificationSettings, on: Sequence[On]) -> int:
        async with self._free:
            return await self._tell_one(kept, on)

    async def _tell_one(self, kept: NotificationSettings, on: Sequence[On]) -> int:
        try:
            owed = await self._note(kept, on)
        except Conflict:  # another console was faster, and goes on
            return 0
        if is_quiet(kept, self._now()):
            return 0
        taken = 0
        for row in owed:
            if not await self._send(kept, row):
                break  # the rest stays owed: a way that does not answer takes half a minute for each
            taken += 1
        return taken

    async def _note(self, kept: NotificationSettings, on: Sequence[On]) -> list[NotificationSent]:
        """Record what is on and what is over; returns what is owed now, the longest due first."""
        now = self._now()
        async with self._store.writing() as session:
            sent = NotificationRepository(session)
            rows = {row.event_id: row for row in await sent.sent(kept.user_id)}
            for one in on:
                row = rows.get(one.found.id[:300])
                if row is None:
                    row = rows[one.found.id[:300]] = _begun(kept.user_id, one, now)
                    sent.add(row)
                elif row.over_at:
                    _begin(row, one, now)
                else:
                    _still_on(row, one, now, timedelta(seconds=kept.remind_seconds))
            ids = {one.found.id[:300] for one in on}
            for event_id, row in rows.items():
                if event_id in ids or row.over_at:
                    continue
                if not wanted(kept, Event(row.event), row.subject):
                    await sent.remove(row)
                elif Event(row.event) not in LIMITED or now - row.seen_at > OVER_AFTER:
                    _end(row, now)
        owed = [
            (row.retry_at, row) for row in rows.values() if row.retry_at and row.retry_at <= now
        ]
        return [row for _, row in sorted(owed, key=lambda one: one[0])]

    async def _send(self, kept: NotificationSettings, row: NotificationSent) -> bool:
        """Send a message that is owed, unless another console does; returns whether it was taken."""
        now = self._now()
        until = now + PATIENCE.claimed_for
        async with self._store.writing() as session:
            if not await NotificationRepository(session).claim(row, until):
                return False
        error = await self._tried(kept, row)
        now = self._now()
        retry_at = now + PATIENCE.wait_after(row.tries + 1) if error else None
        async with self._store.writing() as session:
            await NotificationRepository(session).came_of(
                row, until, error=error, told_at=row.told_at if error else now, retry_at=retry_at
            )
        told = log.warning if error else log.info
        told(
            "user_told",
            user=kept.user.name,
            event_id=row.event_id,
            message=row.message,
            error=error,
        )
        return error is None

    async def _tried(self, kept: NotificationSettings, row: NotificationSent) -> str | None:
        try:
            way = way_of(kept, kept.user, self._settings, self._sealing)
            return await tried(way, outgoing_of(kept, row))
        except Invalid as error:  # what was set does not do any more
            return str(error)
        except Exception as error:  # the other users must not wait for it
            log.exception("telling_failed", user=kept.user.name, kind=type(error).__name__)
            return f"{type(error).__name__}: not foreseen; see telling_failed in the log"


def wanted(kept: NotificationSettings, event: Event, subject: str) -> bool:
    """Whether the user chose to be told of it."""
    if event.value not in orjson.loads(kept.events):
        return False
    feeds = orjson.loads(kept.feeds)
    return not feeds or event in OF_NO_FEED or subject in feeds


def is_quiet(kept: NotificationSettings, now: datetime) -> bool:
    """Whether it is within the user's quiet hours, in their time zone."""
    if kept.quiet_from is None or kept.quiet_until is None:
        return False
    clock = now.astimezone(ZoneInfo(kept.user.time_zone)).strftime("%H:%M")
    if kept.quiet_from <= kept.quiet_until:
        return kept.quiet_from <= clock < kept.quiet_until
    return clock >= kept.quiet_from or clock < kept.quiet_until


def outgoing_of(kept: NotificationSettings, row: NotificationSent) -> Notification:
    """The message, as the installation's own."""
    stored = {
        "_id": f"{row.event_id}|{row.user_id}",
        "event": row.event,
        "subject": row.subject,
        "said": row.said,
        "began_at": row.began_at,
        "over_at": row.over_at,
        "message": {"kind": row.message, "number": row.number, "at": row.message_at},
    }
    return Notification(stored, ZoneInfo(kept.user.time_zone), Form(kept.webhook_format))


def _begun(user_id: str, one: On, now: datetime) -> NotificationSent:
    found = one.found
    row = NotificationSent(
        user_id=user_id,
        event_id=found.id[:300],
        event=found.event.value,
        subject=found.subject[:300],
        number=0,
    )
    _begin(row, one, now)
    return row


def _begin(row: NotificationSent, one: On, now: datetime) -> None:
    row.said, row.began_at, row.seen_at = one.found.said, one.began_at, now
    row.over_at = row.told_at = row.error = None
    _owe(row, Message.BEGAN, now)


def _still_on(row: NotificationSent, one: On, now: datetime, remind: timedelta) -> None:
    row.seen_at, row.said = now, one.found.said
    if row.retry_at is None and row.told_at is not None and now - row.told_at >= remind:
        _owe(row, Message.REMINDER, now)


def _end(row: NotificationSent, now: datetime) -> None:
    """Over: an all-clear is owed to who was told."""
    row.over_at = now
    if row.told_at is None:
        row.retry_at = None
    else:
        _owe(row, Message.OVER, now)


def _owe(row: NotificationSent, message: Message, now: datetime) -> None:
    row.message, row.number, row.message_at = message.value, row.number + 1, now
    row.retry_at, row.tries = now, 0
