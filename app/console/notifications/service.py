"""Notifications: what each user is told of and how, and the events that are on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import orjson

from app.configuration.loaded import Loaded
from app.console.audit.service import Audit
from app.console.errors import Conflict, NotFound, Stale, TooMany
from app.console.notifications.channels import may_use, tried, way_of
from app.console.notifications.repository import NotificationRepository
from app.console.notifications.schemas import Channel, SettingsChange, Tested
from app.console.security.roles import Permission, Principal
from app.console.security.sealing import PREFIX, Sealing
from app.console.store.store import Store
from app.console.store.tables import NotificationSettings, User
from app.console.users.repository import UserRepository
from app.core.clock import Clock, utc_now
from app.ledger import Ledger
from app.ledger.notifications import Message
from app.notifications.notification import Form, Notification
from app.reads.notifications import Notified, read_notifications

TEST_APART = timedelta(seconds=10)
"""Between two tests of a user."""
PLAIN = (
    "enabled", "channel", "webhook_format", "dead_above", "oldest_above_seconds", "remind_seconds",
    "quiet_from", "quiet_until",
)  # fmt: skip
"""The fields that are kept as they are given."""


class Notifications:
    """Manages one's own settings, and reads events."""

    def __init__(
        self,
        store: Store,
        audit: Audit,
        loaded: Loaded,
        ledger: Ledger,
        sealing: Sealing,
        now: Clock = utc_now,
    ) -> None:
        self._store = store
        self._audit = audit
        self._loaded = loaded
        self._ledger = ledger
        self._sealing = sealing
        self._now = now
        self._tested: dict[str, datetime] = {}

    async def events(self, actor: Principal) -> Sequence[Notified]:
        """The events that are on, and those that were over within a week. Raises `Forbidden`, and the
        ledger's errors."""
        actor.require(Permission.LOOK)
        return await read_notifications(self._ledger)

    async def settings(self, actor: Principal) -> tuple[NotificationSettings, User]:
        """One's own settings, and the user they are of. Raises `Forbidden`, `NotFound`."""
        actor.require(Permission.OWN_PROFILE)
        async with self._store.reading() as session:
            user = await UserRepository(session).get(actor.user_id)
            kept = await NotificationRepository(session).settings(actor.user_id)
        if user is None:
            raise NotFound("you have no settings: log in as a user")
        return kept or unchanged(actor.user_id), user

    async def change(
        self, actor: Principal, change: SettingsChange, version: int
    ) -> tuple[NotificationSettings, User]:
        """Change one's own settings. Raises `Forbidden`, `Stale`; `Invalid` for what could not be
        sent, or a webhook that leads where the user may not call."""
        _, user = await self.settings(actor)
        if change.webhook_url:
            await may_use(change.webhook_url, user)
        async with self._store.writing() as session:
            repository = NotificationRepository(session)
            kept = await repository.settings(user.id)
            if kept is None:
                kept = unchanged(user.id)
                repository.add(kept)
                await session.flush()
            if kept.version != version:
                raise Stale("the settings were changed meanwhile: read them again, then repeat")
            before = _told(kept)
            _apply(kept, change)
            if change.webhook_url is not None:
                url = change.webhook_url
                kept.webhook_url = self._sealing.seal(url) if url else None
            if kept.enabled:
                way_of(kept, user, self._loaded.settings, self._sealing)
            await session.flush()
            after = _told(kept) | ({"webhook_changed": True} if change.webhook_url else {})
            await self._audit.record(
                session, actor, "notifications.changed", user.name, before=before, after=after
            )
        return kept, user

    async def test(self, actor: Principal) -> Tested:
        """Send a test message the way that is set, as every other goes. Raises `Forbidden`;
        `Invalid` where something lacks; `TooMany`."""
        kept, user = await self.settings(actor)
        way, now = way_of(kept, user, self._loaded.settings, self._sealing), self._now()
        last = self._tested.get(user.id)
        if last is not None and now - last < TEST_APART:
            raise TooMany("wait a few seconds between two tests", int(TEST_APART.total_seconds()))
        self._tested[user.id] = now
        error = await tried(way, _trial(user, kept, now))
        await self._audit.note(
            actor, "notifications.tested", user.name, after={"way": kept.channel, "error": error}
        )
        return Tested(channel=Channel(kept.channel), taken=error is None, error=error)

    async def seal_all(self) -> int:
        """Seal what was kept before webhooks' URLs were; returns how many."""
        async with self._store.reading() as session:
            if not await NotificationRepository(session).unsealed(PREFIX):
                return 0
        try:
            async with self._store.writing() as session:
                plain = await NotificationRepository(session).unsealed(PREFIX)
                for kept in plain:
                    assert kept.webhook_url is not None  # noqa: S101 - by what was asked for
                    kept.webhook_url = self._sealing.seal(kept.webhook_url)
        except Conflict:  # another console was faster
            return 0
        return len(plain)


def unchanged(user_id: str) -> NotificationSettings:
    """The settings of who has changed none."""
    given = SettingsChange()
    kept = NotificationSettings(user_id=user_id, webhook_url=None, version=1)
    _apply(kept, given)
    return kept


def _apply(kept: NotificationSettings, change: SettingsChange) -> None:
    for name in PLAIN:
        setattr(kept, name, getattr(change, name))
    kept.channel, kept.webhook_format = change.channel.value, change.webhook_format.value
    kept.events = orjson.dumps(sorted({event.value for event in change.events})).decode()
    kept.feeds = orjson.dumps(sorted({*change.feeds})).decode()


def _told(kept: NotificationSettings) -> dict[str, object]:
    """What the audit log says of settings: of the webhook, whether there is one."""
    return {name: getattr(kept, name) for name in PLAIN} | {
        "events": orjson.loads(kept.events),
        "feeds": orjson.loads(kept.feeds),
        "webhook_set": bool(kept.webhook_url),
    }


def _trial(user: User, kept: NotificationSettings, now: datetime) -> Notification:
    stored = {
        "_id": f"test|{user.id}",
        "event": None,
        "subject": "test",
        "said": f"{user.name} asked for this message in the console",
        "began_at": now,
        "message": {"kind": Message.BEGAN.value, "number": 1, "at": now},
    }
    return Notification(stored, ZoneInfo(user.time_zone), Form(kept.webhook_format))
