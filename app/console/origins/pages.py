"""`/admin/origins`: whose pages may call the API from a browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.forms import Refused, checked, refusals, status_of, told_of, typed, version_of
from app.console.origins.schemas import NewOrigin, OriginChange
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import PAGE, Id, cursor_of, read_cursor
from app.console.services import Services
from app.console.store.tables import Origin

router = APIRouter(prefix="/admin/origins", include_in_schema=False)

HERE = "/admin/origins"
FIELDS = ("origin", "note")


@router.get("")
async def origins_page(request: Request, who: ReadBy, given: Given) -> Response:
    """All origins, and the form that adds one."""
    return await _list(request, who, given)


@router.post("")
async def add_origin(request: Request, who: ReadBy, given: Given) -> Response:
    """Let an origin in, from now on."""
    by, form = who.by, await typed(request, FIELDS)
    try:
        with refusals(FIELDS):
            origin = await given.origins.create(by, checked(NewOrigin, form))
    except Refused as refused:
        return await _list(request, who, given, form, refused)
    return go(HERE, who.gettext("%(origin)s is let in.", origin=origin.origin))


@router.get("/{origin_id}")
async def origin_page(request: Request, who: ReadBy, given: Given, origin_id: Id) -> Response:
    """One origin, and the forms that change and delete it."""
    return _one(request, who, await given.origins.get(who.by, origin_id))


@router.post("/{origin_id}")
async def change_origin(request: Request, who: ReadBy, given: Given, origin_id: Id) -> Response:
    """Change an origin; the form again, with what is there now, where somebody else was faster."""
    by, form = who.by, await typed(request, (*FIELDS, "enabled", "version"))
    values = {"origin": form["origin"], "note": form["note"], "enabled": form["enabled"] == "on"}
    try:
        change = checked(OriginChange, values)
        with refusals(FIELDS):
            origin = await given.origins.change(by, origin_id, change, version_of(form["version"]))
    except Refused as refused:
        return _one(request, who, await given.origins.get(by, origin_id), values, refused)
    return go(HERE, who.gettext("%(origin)s was changed.", origin=origin.origin))


@router.post("/{origin_id}/delete")
async def delete_origin(request: Request, who: ReadBy, given: Given, origin_id: Id) -> Response:
    """Let an origin in no more, and forget it."""
    by, form = who.by, await typed(request, ("version",))
    try:
        with refusals(()):
            await given.origins.delete(by, origin_id, version_of(form["version"]))
    except Refused as refused:
        return _one(request, who, await given.origins.get(by, origin_id), None, refused)
    return go(HERE, who.gettext("The origin was deleted."))


async def _list(
    request: Request,
    who: Reader,
    given: Services,
    form: Mapping[str, str] | None = None,
    refused: Refused | None = None,
) -> Response:
    try:
        cursor = read_cursor(request.query_params.get("after"), str)
    except Invalid:
        cursor = None
    origins, following = await given.origins.list(who.by, cursor[0] if cursor else None, PAGE)
    told = {
        "origins": origins,
        "next_url": f"{HERE}?{urlencode({'after': cursor_of(following)})}" if following else None,
        "typed": form or dict.fromkeys(FIELDS, ""),
        **told_of(refused),
    }
    return render(request, who, "origins/list.html", told, status_of(refused))


def _one(
    request: Request,
    who: Reader,
    origin: Origin,
    form: Mapping[str, object] | None = None,
    refused: Refused | None = None,
) -> Response:
    told = {
        "origin": origin,
        "typed": form or {name: getattr(origin, name) for name in (*FIELDS, "enabled")},
        **told_of(refused),
    }
    return render(request, who, "origins/one.html", told, status_of(refused))
