"""`/api/v1/users`: for admins, and `/users/me` for everybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.console.dependencies import By, Given, IfMatch, ShownOnce, etag
from app.console.problems import REFUSES
from app.console.schemas import PAGE, Cursor, Id, Limit, Page, cursor_of, read_cursor
from app.console.store.tables import User
from app.console.users.schemas import (
    NewUser,
    OneTime,
    PasswordChange,
    ProfileChange,
    ProfileShown,
    UserChange,
    UserMade,
    UserShown,
)
from app.console.users.service import Link

router = APIRouter(prefix="/users", tags=["users"])


@router.get("/me", responses=REFUSES[404])
async def read_profile(by: By, given: Given, response: Response) -> ProfileShown:
    """One's own profile."""
    return _profile(await given.users.profile(by), response)


@router.patch("/me", responses=REFUSES[404])
async def change_profile(
    change: ProfileChange, version: IfMatch, by: By, given: Given, response: Response
) -> ProfileShown:
    """Change one's own profile."""
    return _profile(await given.users.change_profile(by, change, version), response)


@router.post("/me/password", status_code=204, responses=REFUSES[404])
async def change_password(change: PasswordChange, by: By, given: Given) -> None:
    """Change one's own password; every other session ends."""
    await given.users.change_password(by, change.current, change.new)


@router.get("")
async def list_users(
    by: By,
    given: Given,
    limit: Annotated[Limit, Query()] = PAGE,
    after: Annotated[Cursor, Query()] = None,
) -> Page[UserShown]:
    """Users by name."""
    cursor = read_cursor(after, str)
    users, following = await given.users.list(by, cursor[0] if cursor else None, limit)
    shown = [_shown(user) for user in users]
    return Page(items=shown, next=cursor_of(following) if following else None)


@router.post("", status_code=201, dependencies=[ShownOnce])
async def create_user(new: NewUser, by: By, given: Given, response: Response) -> UserMade:
    """Make a user; the link in the answer sets their password, once."""
    user, link = await given.users.create(by, new)
    response.headers.update(etag(user.version))
    return UserMade(user=_shown(user), link=_link(link))


@router.get("/{user_id}")
async def read_user(user_id: Id, by: By, given: Given, response: Response) -> UserShown:
    """One user."""
    user = await given.users.get(by, user_id)
    response.headers.update(etag(user.version))
    return _shown(user)


@router.patch("/{user_id}")
async def change_user(
    user_id: Id, change: UserChange, version: IfMatch, by: By, given: Given, response: Response
) -> UserShown:
    """Change a user: another role, or disabled, logs them out everywhere."""
    user = await given.users.change(by, user_id, change, version)
    response.headers.update(etag(user.version))
    return _shown(user)


@router.post("/{user_id}/link", status_code=201, dependencies=[ShownOnce])
async def new_link(user_id: Id, by: By, given: Given) -> OneTime:
    """A new link with which the user sets a password; those before are void."""
    _, link = await given.users.new_link(by, user_id)
    return _link(link)


def _fields(user: User) -> dict[str, object]:
    names = (
        "id", "name", "display_name", "email", "role", "created_at", "last_login_at", "disabled_at", "version",
    )  # fmt: skip
    return {name: getattr(user, name) for name in names} | {
        "has_password": user.password_hash is not None
    }


def _shown(user: User) -> UserShown:
    return UserShown.model_validate(_fields(user))


def _profile(user: User, response: Response) -> ProfileShown:
    response.headers.update(etag(user.version))
    own = {name: getattr(user, name) for name in ("language", "time_zone", "theme")}
    return ProfileShown.model_validate(_fields(user) | own)


def _link(link: Link) -> OneTime:
    return OneTime(url=link.url, expires_at=link.expires_at)
