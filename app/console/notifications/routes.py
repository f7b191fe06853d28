"""`/api/v1/notifications`: events that are on, and one's own settings."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Response

from app.console.dependencies import By, Given, IfMatch, etag
from app.console.notifications.schemas import EventShown, SettingsChange, SettingsShown, Tested
from app.console.notifications.service import PLAIN
from app.console.problems import REFUSES
from app.console.schemas import Page
from app.console.store.tables import NotificationSettings, User

router = APIRouter(prefix="/notifications", tags=["notifications"])


@router.get("")
async def list_events(by: By, given: Given) -> Page[EventShown]:
    """The events that are on, and those that were over within a week."""
    found = await given.notifications.events(by)
    return Page(items=[EventShown.model_validate(one) for one in found], next=None)


@router.get("/settings", responses=REFUSES[404])
async def read_settings(by: By, given: Given, response: Response) -> SettingsShown:
    """One's own settings."""
    kept, user = await given.notifications.settings(by)
    response.headers.update(etag(kept.version))
    return shown(kept, user)


@router.put("/settings", responses=REFUSES[404])
async def change_settings(
    change: SettingsChange, version: IfMatch, by: By, given: Given, response: Response
) -> SettingsShown:
    """Change one's own settings. The webhook's URL is never shown again; without one it stays."""
    kept, user = await given.notifications.change(by, change, version)
    response.headers.update(etag(kept.version))
    return shown(kept, user)


@router.post("/settings/test", responses=REFUSES[404] | REFUSES[429])
async def test_settings(by: By, given: Given) -> Tested:
    """Send a test message the way that is set, as every other goes."""
    return await given.notifications.test(by)


def shown(kept: NotificationSettings, user: User) -> SettingsShown:
    """Settings as they are given out."""
    return SettingsShown.model_validate(
        {name: getattr(kept, name) for name in PLAIN}
        | {
            "events": orjson.loads(kept.events),
            "feeds": orjson.loads(kept.feeds),
            "webhook_set": bool(kept.webhook_url),
            "mail_to": user.email,
            "version": kept.version,
        }
    )
