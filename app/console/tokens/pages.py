"""`/admin/tokens`: keys of machines, and programs that are logged in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.api_keys.schemas import NewApiKey
from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.forms import Refused, checked, refusals, status_of, told_of, typed
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import PAGE, Id, MomentPlace, moment_cursor, read_moment_cursor
from app.console.services import Services

router = APIRouter(prefix="/admin/tokens", include_in_schema=False)

HERE = "/admin/tokens"
FIELDS = ("name", "role", "days")
DAYS = ("30", "90", "365", "")
"""How long a key may last; empty: until it is revoked."""
EACH = PAGE // 2
"""Keys, and programs, on one page."""


@router.get("")
async def tokens_page(request: Request, who: ReadBy, given: Given) -> Response:
    """Keys, the form that makes one, and programs that are logged in."""
    return await _page(request, who, given)


@router.post("")
async def make_key(request: Request, who: ReadBy, given: Given) -> Response:
    """Make a key: the page shows the secret, this once."""
    by, form = who.by, await typed(request, FIELDS)
    try:
        expires = _expires(form["days"], given.now())
        new = checked(
            NewApiKey, {"name": form["name"], "role": form["role"], "expires_at": expires}
        )
        with refusals(FIELDS):
            key, secret = await given.api_keys.create(by, new)
    except Refused as refused:
        return await _page(request, who, given, form, refused)
    page = render(request, who, "tokens/made.html", {"key": key, "secret": secret})
    page.headers["Cache-Control"] = "no-store"
    return page


@router.post("/keys/{key_id}/revoke")
async def revoke_key(who: ReadBy, given: Given, key_id: Id) -> Response:
    """Refuse a key from now on."""
    await given.api_keys.revoke(who.by, key_id)
    return go(HERE, who.gettext("The key is refused from now on."))


@router.post("/programs/{family}/end")
async def end_program(who: ReadBy, given: Given, family: Id) -> Response:
    """Log a program out."""
    await given.tokens.end(who.by, family)
    return go(HERE, who.gettext("The program was logged out."))


def _expires(days: str, now: datetime) -> datetime | None:
    """Raises `Refused` for what is none of `DAYS`."""
    if days not in DAYS:
        raise Refused({"days": "30, 90 or 365 days, or until it is revoked"})
    return now + timedelta(days=int(days)) if days else None


async def _page(
    request: Request,
    who: Reader,
    given: Services,
    form: Mapping[str, str] | None = None,
    refused: Refused | None = None,
) -> Response:
    places = {name: _place(request.query_params.get(name)) for name in ("keys", "programs")}
    keys, more_keys = await given.api_keys.list(who.by, places["keys"], EACH)
    families, more = await given.tokens.list(who.by, places["programs"], EACH, of_all=True)
    told = {
        "keys": keys,
        "next_keys": _url("keys", more_keys),
        "families": families,
        "next_families": _url("programs", more),
        "typed": form or {"name": "", "role": "viewer", "days": "90"},
        **told_of(refused),
    }
    return render(request, who, "tokens/list.html", told, status_of(refused))


def _place(after: str | None) -> MomentPlace | None:
    try:
        return read_moment_cursor(after)
    except Invalid:
        return None


def _url(name: str, place: MomentPlace | None) -> str | None:
    cursor = moment_cursor(place)
    return f"{HERE}?{urlencode({name: cursor})}" if cursor else None
