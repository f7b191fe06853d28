"""`/profile`: one's own name, language, time zone, theme, password and sessions; `/permissions`: what each
role may do."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.console.dependencies import Given
from app.console.forms import Refused, checked, refusals, status_of, told_of, typed, version_of
from app.console.pages import ReadBy, Reader, go, render
from app.console.schemas import Id
from app.console.security.roles import LEAST, Permission, Role
from app.console.services import Services
from app.console.users.schemas import Language, ProfileChange, time_zones

router = APIRouter(include_in_schema=False)

HERE = "/profile"
FIELDS = ("display_name", "email", "language", "time_zone", "theme")
PASSWORD = ("current", "new", "again")


@router.get("/profile")
async def profile_page(request: Request, who: ReadBy, given: Given) -> Response:
    """The forms, and one's own sessions."""
    return await _page(request, who, given)


@router.post("/profile")
async def change_profile(request: Request, who: ReadBy, given: Given) -> Response:
    """Change one's own profile."""
    by, form = who.by, await typed(request, (*FIELDS, "version"))
    try:
        change = checked(ProfileChange, {name: form[name] or None for name in FIELDS})
        with refusals(FIELDS):
            await given.users.change_profile(by, change, version_of(form["version"]))
    except Refused as refused:
        return await _page(request, who, given, form, refused)
    return go(HERE, who.gettext("Your profile was changed."))


@router.post("/profile/password")
async def change_password(request: Request, who: ReadBy, given: Given) -> Response:
    """Change one's own password: every other login ends."""
    by = who.by
    form = await request.form()
    current, new, again = (str(form.get(name) or "")[:1000] for name in PASSWORD)
    if new != again:
        refused = Refused({"again": who.gettext("the two are not the same")})
        return await _page(request, who, given, None, refused)
    try:
        with refusals((*PASSWORD, "password")):
            await given.users.change_password(by, current, new)
    except Refused as refused:
        errors = {
            "new" if name == "password" else name: said for name, said in refused.errors.items()
        }
        again_refused = Refused(errors, refused.problem, refused.status)
        return await _page(request, who, given, None, again_refused)
    return go(HERE, who.gettext("Your password was changed; every other login has ended."))


@router.post("/profile/sessions/end-others")
async def end_others(who: ReadBy, given: Given) -> Response:
    """Log out everywhere but here."""
    ended = await given.sessions.end_others(who.by)
    return go(HERE, who.gettext("%(count)s other logins have ended.", count=ended))


@router.post("/profile/sessions/{session_id}/end")
async def end_session(who: ReadBy, given: Given, session_id: Id) -> Response:
    """End one's own session."""
    await given.sessions.end(who.by, session_id)
    return go(HERE, who.gettext("The login has ended."))


@router.get("/permissions")
async def permissions_page(request: Request, who: ReadBy) -> Response:
    """What each role may do, and what the reader may."""
    who.by.require(Permission.OWN_PROFILE)
    told = {"roles": [*Role], "permissions": [*LEAST.items()]}
    return render(request, who, "users/permissions.html", told)


async def _page(
    request: Request,
    who: Reader,
    given: Services,
    form: Mapping[str, str] | None = None,
    refused: Refused | None = None,
) -> Response:
    user = await given.users.profile(who.by)
    told = {
        "user": user,
        "sessions": await given.sessions.list(who.by),
        "typed": form or {name: getattr(user, name) or "" for name in FIELDS},
        **told_of(refused),
        "languages": [(Language.ENGLISH, "English"), (Language.VIETNAMESE, "Tiếng Việt")],
        "zones": time_zones(),
    }
    return render(request, who, "users/profile.html", told, status_of(refused))
