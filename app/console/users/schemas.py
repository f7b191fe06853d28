"""Users, as the API takes and gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from app.console.schemas import Line, Schema, Version, any_spelling
from app.console.security.roles import Role

_MAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Language(StrEnum):
    """Of the pages."""

    ENGLISH = "en"
    VIETNAMESE = "vi"


class Theme(StrEnum):
    """Of the pages."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


def _name(name: str) -> str:
    folded = name.casefold()
    if not re.fullmatch(r"[a-z0-9][a-z0-9._@+-]*", folded):
        raise ValueError("letters, digits and . _ @ + -, beginning with a letter or digit")
    return folded


def _mail(address: str) -> str:
    if not _MAIL.fullmatch(address):
        raise ValueError("a mail address")
    return address


@cache
def time_zones() -> Sequence[str]:
    """The names of all time zones, in order: read from the system's files once."""
    return sorted(available_timezones())


def _zone(name: str) -> str:
    if name not in time_zones():
        raise ValueError('a name of the IANA time zone database, such as "Asia/Ho_Chi_Minh"')
    return name


UserName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_name)]
DisplayName = Annotated[Line, Field(min_length=1, max_length=100)]
Mail = Annotated[Line, Field(max_length=320), AfterValidator(_mail)]
Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
AnyRole = Annotated[Role, any_spelling(Role)]


class NewUser(Schema):
    """A user to be made."""

    name: UserName
    role: AnyRole
    display_name: DisplayName | None = None
    email: Mail | None = None


class UserChange(Schema):
    """What of a user changes; what is not given stays."""

    display_name: DisplayName | None = None
    email: Mail | None = None
    role: AnyRole | None = None
    disabled: bool | None = None


class UserShown(Schema):
    """A user."""

    id: str
    name: str
    display_name: str
    email: str | None
    role: Role
    created_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    has_password: bool
    version: Version


class OneTime(Schema):
    """A link with which a user sets a password, once."""

    url: str
    expires_at: datetime


class UserMade(Schema):
    """A user, and the link to hand over."""

    user: UserShown
    link: OneTime


class ProfileShown(UserShown):
    """One's own profile."""

    language: Language
    time_zone: str
    theme: Theme


class ProfileChange(Schema):
    """What of one's profile changes; what is not given stays."""

    display_name: DisplayName | None = None
    email: Mail | None = None
    language: Annotated[Language, any_spelling(Language)] | None = None
    time_zone: Zone | None = None
    theme: Annotated[Theme, any_spelling(Theme)] | None = None


class PasswordChange(Schema):
    """A new password."""

    current: str = Field(max_length=1000)
    new: str = Field(max_length=1000)
