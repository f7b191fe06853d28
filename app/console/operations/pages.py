"""`/operations`: the history, a new one from filter to frozen set, and one while it runs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, Path, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.console.deliveries.schemas import DeliveryFilter
from app.console.dependencies import Given
from app.console.errors import ConsoleError, Forbidden, NotFound
from app.console.forms import what_is_right
from app.console.operations.schemas import (
    Chosen,
    NewOperationAsked,
    OperationsAsked,
    PreviewShown,
    Verb,
    shown_in_set,
    shown_operation,
)
from app.console.pages import ReadBy, Reader, go, render
from app.console.services import Services
from app.core.operations import Operation, OperationKind, OperationState
from app.core.states import OPEN_STATES
from app.operations.bulk_request import DEFAULT_RATE

router = APIRouter(prefix="/operations", include_in_schema=False)

Text = Annotated[str, Form(max_length=1000)]
Long = Annotated[str, Form(max_length=60_000)]
AnyId = Annotated[str, Path(max_length=64)]
SET_PAGE = 50
CANARY, STOP_PERCENT = "10", "20"
"""What the form of a new replay begins with."""


@router.get("")
async def operations_page(request: Request, who: ReadBy, given: Given) -> Response:
    """All operations, the newest first."""
    typed = {name: request.query_params.get(name, "") for name in ("state", "feed", "after")}
    problem: str | None = None
    page: Sequence[Operation] = []
    following: str | None = None
    try:
        asked = OperationsAsked.model_validate(
            {
                "state": [typed["state"]] if typed["state"] else [],
                "feed": typed["feed"] or None,
                "after": typed["after"] or None,
            }
        )
        page, following = await given.operations.page(who.by, asked)
    except ValidationError as error:
        problem = _said(error)
    kept = {name: typed[name] for name in ("state", "feed") if typed[name]}
    next_url = f"/operations?{urlencode(kept | {'after': following})}" if following else None
    told = {
        "operations": [shown_operation(one) for one in page],
        "typed": typed,
        "states": [state.value for state in OperationState],
        "feeds": sorted(given.operator.feeds),
        "next_url": next_url,
        "problem": problem,
    }
    return render(request, who, "operations/list.html", told, 422 if problem else 200)


@router.get("/new")
async def new_page(request: Request, who: ReadBy, given: Given) -> Response:
    """From a filter in the address to a preview of what it selects."""
    pairs = list(request.query_params.multi_items())
    typed = {"kind": request.query_params.get("kind") or _kind(pairs), "id": secrets.token_hex(12)}
    return await _new(request, who, given, pairs, typed)


@router.post("")
async def create(
    request: Request,
    who: ReadBy,
    given: Given,
    kind: Text,
    filter: Long,  # noqa: A002 - what the form calls it
    id: Text,  # noqa: A002 - as above
    why: Text = "",
    rate: Text = "",
    canary: Text = "",
    stop_percent: Text = "",
) -> Response:
    """Freeze the set, and on to its page."""
    pairs = parse_qsl(filter)
    typed = {
        "kind": kind, "id": id, "why": why, "rate": rate, "canary": canary,
        "stop_percent": stop_percent,
    }  # fmt: skip
    try:
        replays = kind == OperationKind.REPLAY
        new = NewOperationAsked.model_validate(
            {
                "id": id, "kind": kind, "filter": DeliveryFilter.read(pairs), "why": why, "rate": rate or None,
                "canary": (canary or 0) if replays else 0,
                "stop_ratio": _ratio(stop_percent) if replays else None,
            }
        )  # fmt: skip
        operation = await given.operations.create(who.by, new)
    except ValidationError as error:
        return await _new(request, who, given, pairs, typed, _said(error), 422)
    except ConsoleError as error:
        return await _new(request, who, given, pairs, typed, str(error), error.status)
    said = who.gettext("The set is being frozen. Nothing has moved yet.")
    return go(f"/operations/{operation.id}", said)


@router.get("/{operation_id}")
async def operation_page(
    request: Request, who: ReadBy, given: Given, operation_id: AnyId
) -> Response:
    """One operation: progress, numbers, history, its set."""
    return await _one(request, who, given, operation_id)


@router.post("/{operation_id}/{verb}")
async def move(
    request: Request,
    who: ReadBy,
    given: Given,
    operation_id: AnyId,
    verb: Verb,
    why: Text = "",
    version: Text = "",
) -> Response:
    """Start, pause, resume or abandon it."""
    if len(why.strip()) < 3:
        problem = "Say why: it goes on record."
        return await _one(request, who, given, operation_id, problem, 422)
    known = int(version) if version.isascii() and version.isdigit() else None
    try:
        await given.operations.move(who.by, operation_id, verb, why.strip()[:500], known)
    except (Forbidden, NotFound):
        raise
    except ConsoleError as error:
        return await _one(request, who, given, operation_id, str(error), error.status)
    return go(f"/operations/{operation_id}")


async def _new(
    request: Request,
    who: Reader,
    given: Services,
    pairs: list[tuple[str, str]],
    typed: dict[str, str],
    problem: str | None = None,
    status: int = 200,
) -> Response:
    """The form of a new one. `typed` is kept where something is wrong with it."""
    preview: PreviewShown | None = None
    chosen: dict[str, Any] = {}
    query = ""
    try:
        asked = DeliveryFilter.read(pairs)
        chosen, query = asked.model_dump(mode="json", exclude_defaults=True), asked.query()
        if asked.narrows or asked.state:
            wanted = Chosen.model_validate({"kind": typed["kind"], "filter": asked})
            preview = await given.operations.preview(who.by, wanted)
    except ValidationError as error:
        problem, status = problem or _said(error), 422
    except ConsoleError as error:
        if error.status not in (403, 409, 422):
            raise
        problem, status = problem or str(error), error.status
    kind = typed["kind"] if typed["kind"] in list(OperationKind) else "replay"
    defaults = {
        "rate": DEFAULT_RATE[OperationKind(kind)], "canary": CANARY,
        "stop_percent": STOP_PERCENT, "why": "",
    }  # fmt: skip
    told = {
        "kinds": [one.value for one in OperationKind],
        "feeds": sorted(given.operator.feeds),
        "typed": defaults | typed | {"kind": kind},
        "chosen": chosen,
        "kept": _kept(pairs),
        "query": query,
        "preview": preview,
        "problem": problem,
    }
    who.by  # noqa: B018 - the page is for who is logged in
    return render(request, who, "operations/new.html", told, status)


async def _one(
    request: Request,
    who: Reader,
    given: Services,
    operation_id: str,
    problem: str | None = None,
    status: int = 200,
) -> Response:
    after = request.query_params.get("after")
    operation = await given.operations.get(who.by, operation_id)
    page, following = await given.operations.deliveries(who.by, operation_id, SET_PAGE, after)
    here = f"/operations/{operation_id}"
    told = {
        "operation": shown_operation(operation),
        "states": await given.operations.states(who.by, operation),
        "set": [shown_in_set(one) for one in page],
        "next_url": f"{here}?{urlencode({'after': following})}#set" if following else None,
        "problem": problem,
        "moves": operation.state in (OperationState.FREEZING, OperationState.RUNNING),
    }
    return render(request, who, "operations/one.html", told, status)


def _kind(pairs: list[tuple[str, str]]) -> str:
    """What is done with them where nobody said: what can be."""
    states = {value for name, value in pairs if name == "state" and value}
    return "cancel" if states and states <= set(OPEN_STATES) else "replay"


def _kept(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What of the filter the form has no field for: it goes along."""
    several = {
        name
        for name in ("feed", "state")
        if sum(1 for one, value in pairs if one == name and value) > 1
    }
    return [pair for pair in pairs if pair[0] in {"ref", "reason_kind", *several} and pair[1]]


def _ratio(percent: str) -> float | None:
    """A part of 1. Raises pydantic's `ValidationError` by what it gives for what is none."""
    text = percent.strip().removesuffix("%").replace(",", ".")
    if not text:
        return None
    try:
        return float(text) / 100
    except ValueError:
        return -1.0


def _said(error: ValidationError) -> str:
    """What is wrong, a field each."""
    told: list[str] = []
    for one in error.errors()[:5]:
        where = ".".join(str(part) for part in one["loc"]) or "form"
        told.append(f"{where}: {what_is_right(one)}")
    return "; ".join(told)
