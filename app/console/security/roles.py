"""Who may do what: a role includes those below it, and each permission names the least role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.console.errors import Forbidden


class Role(StrEnum):
    """What a user is trusted with."""

    VIEWER = "viewer"
    """Looks; payloads are masked."""
    OPERATOR = "operator"
    """Replays, cancels, acknowledges, pauses; may reveal a payload, with a reason, on record."""
    ADMIN = "admin"
    """Users, origins, settings, tokens."""

    @property
    def rank(self) -> int:
        """Higher may do more."""
        return list(Role).index(self)

    def includes(self, other: Role) -> bool:
        """Whether it may do all that the other may."""
        return self.rank >= other.rank


class Permission(StrEnum):
    """What can be permitted."""

    LOOK = "look"
    """At feeds, deliveries, reports, jobs and operations."""
    OWN_PROFILE = "own profile"
    """One's own profile, password, sessions and notification settings."""
    LEAVE_FEEDBACK = "leave feedback"
    REVEAL = "reveal a payload"
    OPERATE = "replay, cancel and acknowledge deliveries"
    CONTROL_FEEDS = "pause, resume and rewind feeds"
    RUN_JOBS = "run jobs"
    EXPORT = "export deliveries"
    AUDIT = "read the audit log"
    MANAGE_USERS = "manage users"
    MANAGE_ORIGINS = "manage origins"
    MANAGE_TOKENS = "manage tokens and API keys"


LEAST: dict[Permission, Role] = {
    Permission.LOOK: Role.VIEWER,
    Permission.OWN_PROFILE: Role.VIEWER,
    Permission.LEAVE_FEEDBACK: Role.VIEWER,
    Permission.EXPORT: Role.VIEWER,
    Permission.AUDIT: Role.VIEWER,
    Permission.REVEAL: Role.OPERATOR,
    Permission.OPERATE: Role.OPERATOR,
    Permission.CONTROL_FEEDS: Role.OPERATOR,
    Permission.RUN_JOBS: Role.OPERATOR,
    Permission.MANAGE_USERS: Role.ADMIN,
    Permission.MANAGE_ORIGINS: Role.ADMIN,
    Permission.MANAGE_TOKENS: Role.ADMIN,
}
"""Permission → the least role that has it. An auditor is a viewer: the audit log and exports show
no payload."""


PERSONS_ALONE = frozenset(
    {Permission.OWN_PROFILE, Permission.MANAGE_USERS, Permission.MANAGE_TOKENS}
)
"""What no API key may do, whatever its role: a key that was stolen could otherwise change its owner's
password or mail address, or make itself another key, and outlive being revoked."""


class Means(StrEnum):
    """How somebody came in."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - the word, no token
    API_KEY = "api key"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    user_id: str
    name: str
    role: Role
    means: Means
    means_id: str
    """The id of the session or API key, the `jti` of the token."""
    address: str
    """Where from."""
    language: str = "en"
    time_zone: str = "UTC"
    theme: str = "system"

    def may(self, permission: Permission) -> bool:
        """Whether it is permitted."""
        if self.means is Means.API_KEY and permission in PERSONS_ALONE:
            return False
        return self.role.includes(LEAST[permission])

    def require(self, permission: Permission) -> None:
        """Raise `Forbidden` where it is not permitted."""
        if self.may(permission):
            return
        if self.role.includes(LEAST[permission]):
            raise Forbidden(f"an API key may not {_AS_A_VERB.get(permission, permission)}: log in")
        raise Forbidden(why_not(self.role, permission))


_AS_A_VERB = {Permission.OWN_PROFILE: "change its owner's profile, password or sessions"}


def why_not(role: Role, permission: Permission) -> str:
    """Why that role may not do it, and who may."""
    return f"to {permission} takes the role {LEAST[permission]}; yours is {role}"


SYSTEM_ADDRESS = "local"


def of_command(who: str) -> Principal:
    """A person at a shell, who may do everything. `who`: `user@host`."""
    return Principal("", who, Role.ADMIN, Means.COMMAND, "", SYSTEM_ADDRESS)
