"""`/admin/users`: who may log in, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.errors import Invalid
from app.console.forms import Refused, checked, refusals, status_of, told_of, typed, version_of
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import PAGE, Id, cursor_of, read_cursor
from app.console.services import Services
from app.console.store.tables import User
from app.console.users.schemas import NewUser, UserChange
from app.console.users.service import Link

router = APIRouter(prefix="/admin/users", include_in_schema=False)

HERE = "/admin/users"
NEW = ("name", "display_name", "email", "role")
CHANGED = ("display_name", "email", "role")


@router.get("")
async def users_page(request: Request, who: ReadBy, given: Given) -> Response:
    """All users by name, and the form that makes one."""
    return await _list(request, who, given)


@router.post("")
async def make_user(request: Request, who: ReadBy, given: Given) -> Response:
    """Make a user: the page shows the one-time link, this once."""
    by, form = who.by, await typed(request, NEW)
    try:
        new = checked(NewUser, {name: text or None for name, text in form.items()})
        with refusals(NEW):
            user, link = await given.users.create(by, new)
    except Refused as refused:
        return await _list(request, who, given, form, refused)
    return _link(request, who, user, link)


@router.get("/{user_id}")
async def user_page(request: Request, who: ReadBy, given: Given, user_id: Id) -> Response:
    """One user, and the forms that change them."""
    return _one(request, who, await given.users.get(who.by, user_id))


@router.post("/{user_id}")
async def change_user(request: Request, who: ReadBy, given: Given, user_id: Id) -> Response:
    """Change a user; the form again, with what is there now, where somebody else was faster."""
    by, form = who.by, await typed(request, (*CHANGED, "version"))
    try:
        change = checked(UserChange, {name: form[name] or None for name in CHANGED})
        with refusals(CHANGED):
            user = await given.users.change(by, user_id, change, version_of(form["version"]))
    except Refused as refused:
        return _one(request, who, await given.users.get(by, user_id), form, refused)
    return go(HERE, who.gettext("%(name)s was changed.", name=user.name))


@router.post("/{user_id}/state")
async def change_state(request: Request, who: ReadBy, given: Given, user_id: Id) -> Response:
    """Let a user log in no more, or again."""
    by, form = who.by, await typed(request, ("disabled", "version"))
    disabled = form["disabled"] == "on"
    change = UserChange(disabled=disabled)
    try:
        with refusals(()):
            user = await given.users.change(by, user_id, change, version_of(form["version"]))
    except Refused as refused:
        return _one(request, who, await given.users.get(by, user_id), None, refused)
    if disabled:
        return go(HERE, who.gettext("%(name)s may not log in any more.", name=user.name))
    return go(HERE, who.gettext("%(name)s may log in.", name=user.name))


@router.post("/{user_id}/link")
async def new_link(request: Request, who: ReadBy, given: Given, user_id: Id) -> Response:
    """A new one-time link, shown this once; those before are void."""
    user, link = await given.users.new_link(who.by, user_id)
    return _link(request, who, user, link)


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
    users, following = await given.users.list(who.by, cursor[0] if cursor else None, PAGE)
    told = {
        "users": users,
        "next_url": f"{HERE}?{urlencode({'after': cursor_of(following)})}" if following else None,
        "typed": form or dict.fromkeys(NEW, ""),
        **told_of(refused),
    }
    return render(request, who, "users/list.html", told, status_of(refused))


def _one(
    request: Request,
    who: Reader,
    user: User,
    form: Mapping[str, str] | None = None,
    refused: Refused | None = None,
) -> Response:
    told = {
        "user": user,
        "typed": form or {name: getattr(user, name) or "" for name in CHANGED},
        **told_of(refused),
    }
    return render(request, who, "users/one.html", told, status_of(refused))


def _link(request: Request, who: Reader, user: User, link: Link) -> Response:
    page = render(request, who, "users/link.html", {"user": user, "link": link})
    page.headers["Cache-Control"] = "no-store"
    return page
