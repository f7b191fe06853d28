"""`/notifications`: events that are on, and what the reader is told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import ConsoleError
from app.console.forms import Refused, checked, refusals, status_of, typed, version_of
from app.console.notifications.routes import shown
from app.console.notifications.schemas import SettingsChange, Tested
from app.console.pages import ReadBy, Reader, go, render
from app.console.services import Services
from app.core.errors import RowrelayError
from app.core.events import Event
from app.notifications.notification import words_of
from app.reads.notifications import Notified

router = APIRouter(prefix="/notifications", include_in_schema=False)

HERE = "/notifications"
TEXTS = (
    "channel", "webhook_url", "webhook_format", "feeds", "dead_above", "oldest_minutes",
    "remind_minutes", "quiet_from", "quiet_until",
)  # fmt: skip
RENAMED = {"oldest_above_seconds": "oldest_minutes", "remind_seconds": "remind_minutes"}


@router.get("")
async def notifications_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The events, and the form of the settings."""
    return await _page(request, who, given)


@router.post("")
async def change_settings(request: Request, who: ReadBy, given: Given) -> Response:
    """Change one's own settings."""
    by, form = who.by, await typed(request, (*TEXTS, "enabled", "webhook_removed", "version"))
    events = [str(one) for one in (await request.form()).getlist("events")][: len(Event)]
    try:
        change = checked(SettingsChange, _values(form, events))
        with refusals(TEXTS):
            await given.notifications.change(by, change, version_of(form["version"]))
    except Refused as refused:
        return await _page(request, who, given, form | {"events": events}, refused)
    return go(HERE, who.gettext("What you are told of was changed."))


@router.post("/test")
async def test_settings(request: Request, who: ReadBy, given: Given) -> Response:
    """Send a test message, and say what came of it."""
    try:
        with refusals(()):
            tested = await given.notifications.test(who.by)
    except Refused as refused:
        return await _page(request, who, given, None, refused)
    return await _page(request, who, given, None, None, tested)


def _values(form: Mapping[str, str], events: Sequence[str]) -> dict[str, object]:
    """What the form means, for the schema."""
    url: str | None = form["webhook_url"] or None
    if form["webhook_removed"] == "on" and url is None:
        url = ""
    return {
        "enabled": form["enabled"] == "on",
        "channel": form["channel"],
        "webhook_url": url,
        "webhook_format": form["webhook_format"],
        "events": [*events],
        "feeds": [name for name in form["feeds"].replace(",", " ").split() if name],
        "dead_above": form["dead_above"],
        "oldest_above_seconds": _seconds(form["oldest_minutes"]),
        "remind_seconds": _seconds(form["remind_minutes"]),
        "quiet_from": form["quiet_from"] or None,
        "quiet_until": form["quiet_until"] or None,
    }


def _seconds(minutes: str) -> int | str:
    """Minutes in seconds; what is no number stays as it is, to be refused."""
    if minutes.isascii() and minutes.isdigit() and len(minutes) < 9:
        return int(minutes) * 60
    return minutes


async def _page(
    request: Request,
    who: Reader,
    given: Services,
    form: Mapping[str, object] | None = None,
    refused: Refused | None = None,
    tested: Tested | None = None,
) -> Response:
    kept, user = await given.notifications.settings(who.by)
    settings = shown(kept, user)
    events, problem = await _events(who, given)
    errors = (
        {RENAMED.get(name, name): said for name, said in refused.errors.items()} if refused else {}
    )
    told = {
        "settings": settings,
        "typed": form or _typed(settings.model_dump(mode="json")),
        "errors": errors,
        "problem": (refused.problem or errors.get("") or errors.get("events")) if refused else None,
        "stale": refused is not None and refused.status == 412,
        "tested": tested,
        "events": events,
        "events_problem": problem,
        "kinds": [(event.value, words_of(event).wrong) for event in Event],
    }
    return render(request, who, "notifications/list.html", told, status_of(refused))


async def _events(who: Reader, given: Services) -> tuple[Sequence[Notified], str | None]:
    """The events; or why they cannot be told: the settings can be changed all the same."""
    try:
        return await given.notifications.events(who.by), None
    except ConsoleError:
        raise
    except RowrelayError as error:
        return [], str(error)


def _typed(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings as the form has them."""
    oldest, remind = settings["oldest_above_seconds"], settings["remind_seconds"]
    feeds = settings["feeds"]
    assert isinstance(oldest, int) and isinstance(remind, int) and isinstance(feeds, list)  # noqa: S101, PT018 - as the schema has them
    return {
        **settings,
        "enabled": "on" if settings["enabled"] else "",
        "webhook_url": "",
        "webhook_removed": "",
        "oldest_minutes": -(-oldest // 60),
        "remind_minutes": -(-remind // 60),
        "feeds": ", ".join(feeds),
    }
