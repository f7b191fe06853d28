"""`/deliveries`: the search with its filters in the address, and one delivery with its story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import RedirectResponse, Response

from app.console.deliveries.exporting import Format
from app.console.deliveries.routes import file_of
from app.console.deliveries.schemas import DeliveryFilter, DeliverySearch
from app.console.deliveries.shown import Action
from app.console.dependencies import Given
from app.console.errors import ConsoleError, Invalid
from app.console.feedback.schemas import SubjectKind
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import Why
from app.console.services import Services
from app.core.errors import RowrelayError, UnknownFeed
from app.core.shown import plain, plain_lines
from app.core.states import State

router = APIRouter(prefix="/deliveries", include_in_schema=False)

LONGEST_SHOWN = 20_000
"""Characters of a row, a body or an answer that a page shows; the API gives all of it."""
_WHY: TypeAdapter[str] = TypeAdapter(Why)
_TYPED = ("q", "reason", "reason_kind", "status", "attempts", "key", "since", "until", "order")


@router.get("")
async def deliveries_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The deliveries that the address asks for."""
    typed = request.query_params.multi_items()
    zone = ZoneInfo(who.by.time_zone)
    problems: dict[str, str] = {}
    asked, page = DeliverySearch(), None
    try:
        asked = DeliverySearch.read(_absolute(typed, zone))
        if any(_by_own_clock(text) for name, text in typed if name in ("since", "until")):
            return RedirectResponse(f"/deliveries?{asked.query()}", 303)
        page = await given.deliveries.search(who.by, asked)
    except ValidationError as error:
        problems = {str(one["loc"][0]): str(one["loc"][0]) for one in error.errors()}
    except (UnknownFeed, Invalid) as error:
        problems = {"page": str(error)}
    told = {
        "page": page,
        "asked": asked,
        "typed": _typed(typed, asked, zone),
        "problems": problems,
        "feeds": sorted({*given.operator.feeds, *asked.feed}),
        "chosen_feeds": request.query_params.getlist("feed"),
        "chosen_states": request.query_params.getlist("state") if problems else asked.state,
        "states": tuple(State),
        "plain": plain,
    }
    return render(request, who, "deliveries/list.html", told, 422 if problems else 200)


@router.get("/{ref}")
async def delivery_page(request: Request, who: ReadBy, given: Given, ref: str) -> Response:
    """One delivery, and all that happened to it."""
    return await _delivery_page(request, who, given, ref)


@router.post("/export")
async def export(
    request: Request, who: ReadBy, given: Given, why: Annotated[str, Form()] = ""
) -> Response:
    """The search in the address as a file with payloads."""
    asked = DeliveryFilter.read(request.query_params.multi_items())
    found = await given.exporting.export(who.by, asked, Format.NDJSON, _reason(who, why))
    return file_of(found)


@router.post("/{ref}/reveal")
async def reveal(
    request: Request, who: ReadBy, given: Given, ref: str, why: Annotated[str, Form()] = ""
) -> Response:
    """The same page with the row as it is sent, once."""
    try:
        payload = await given.deliveries.reveal(who.by, ref, _reason(who, why))
    except ConsoleError as error:
        return await _refused(request, who, given, ref, why, error)
    response = await _delivery_page(request, who, given, ref, {"payload": payload})
    response.headers["Cache-Control"] = "no-store"
    return response


@router.post("/{ref}/{action}")
async def act(
    request: Request,
    who: ReadBy,
    given: Given,
    ref: str,
    action: Action,
    why: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Replay, cancel or acknowledge it."""
    try:
        await given.deliveries.act(who.by, ref, action, _reason(who, why), again=bool(again))
    except ConsoleError as error:
        return await _refused(request, who, given, ref, why, error)
    return go(f"/deliveries/{ref}", _notice(who, action))


def _notice(who: Reader, action: Action) -> str:
    """What the page says once it is done."""
    match action:
        case Action.REPLAY:
            return who.gettext("The delivery is queued again.")
        case Action.CANCEL:
            return who.gettext("The delivery is cancelled.")
        case Action.ACKNOWLEDGE:
            return who.gettext("The dead letter is acknowledged.")
        case Action.WITHDRAW:
            return who.gettext("The acknowledgement is withdrawn.")


def _reason(who: Reader, why: str) -> str:
    try:
        return _WHY.validate_python(why.strip())
    except ValidationError as error:
        said = who.gettext("Say why, on one line of 3 to 500 characters: it goes on record.")
        raise Invalid(said, "why") from error


async def _refused(
    request: Request, who: Reader, given: Services, ref: str, why: str, error: ConsoleError
) -> Response:
    told = {"problem": str(error), "why": why}
    return await _delivery_page(request, who, given, ref, told, error.status)


async def _delivery_page(
    request: Request,
    who: Reader,
    given: Services,
    ref: str,
    told: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Response:
    shown = await given.deliveries.show(who.by, ref)
    preview, unseen = None, None
    if shown.row or "source" in request.query_params:  # else the source must be asked
        try:
            preview = await given.deliveries.request(who.by, ref)
        except RowrelayError as error:
            unseen = str(error)
    notes = await given.feedback.of_subject(who.by, SubjectKind.DELIVERY, ref)
    found = {
        "delivery": shown,
        "subject_kind": SubjectKind.DELIVERY.value,
        "subject_id": ref,
        "notes": notes,
        "preview": preview,
        "unseen": unseen,
        "payload": None,
        "problem": None,
        "why": "",
        "why_not": {one.action.value: one.why_not for one in shown.actions},
        "plain": plain,
        "plain_lines": _bounded,
    }
    return render(request, who, "deliveries/delivery.html", found | dict(told or {}), status)


def _bounded(text: str) -> str:
    shown = plain_lines(text[:LONGEST_SHOWN])
    return shown if len(text) <= LONGEST_SHOWN else f"{shown}…"


def _absolute(typed: Iterable[tuple[str, str]], zone: ZoneInfo) -> list[tuple[str, str]]:
    """What was typed, with moments that name no time zone in that of the reader."""
    return [
        (name, _of_zone(text, zone) if name in ("since", "until") else text) for name, text in typed
    ]


def _by_own_clock(text: str) -> bool:
    """Whether a moment means something else to a colleague elsewhere, or later."""
    try:
        return bool(text.strip()) and datetime.fromisoformat(text.strip()).tzinfo is None
    except ValueError:
        return True


def _of_zone(text: str, zone: ZoneInfo) -> str:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return text
    return text if moment.tzinfo else moment.replace(tzinfo=zone).isoformat()


def _typed(
    typed: Iterable[tuple[str, str]], asked: DeliverySearch, zone: ZoneInfo
) -> dict[str, str]:
    """What stands in the fields of the form: moments by the reader's clock."""
    fields = dict.fromkeys(_TYPED, "") | {k: v for k, v in typed if k in _TYPED}
    for name in ("since", "until"):
        if moment := getattr(asked, name):
            fields[name] = _local(moment, zone)
    return fields


def _local(moment: datetime, zone: ZoneInfo) -> str:
    try:
        return moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        return ""
