"""What the console refuses, and how HTTP says it.

RowrelayError
└── ConsoleError            a request is answered with a problem, `status` of HTTP
    ├── NotAuthenticated    401  nobody is logged in, or a token is not valid any more
    ├── Forbidden           403  who asks may not do that; says which role may
    ├── NotFound            404
    ├── Conflict            409  a name is taken, or something is already under way
    ├── TooLarge            413  more is sent than anything here needs
    ├── Stale               412  somebody changed it meanwhile
    ├── Invalid             422  a value that cannot be taken; says which
    ├── VersionMissing      428  an edit that does not say what it was made of
    ├── TooMany             429  too many attempts; says when to come again
    └── StoreUnavailable    503  the console's database does not answer, or all connections are taken
"""

from __future__ import annotations

from typing import ClassVar

from app.core.errors import RowrelayError


class ConsoleError(RowrelayError):
    """Base of what a request is refused for. `str(error)` is one line that says what to do."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "error"
    """The last part of the problem's `type`."""
    title: ClassVar[str] = "The console failed"

    retry_after_seconds: int | None = None
    """When to come again, where that is known."""
    field: str | None = None
    """The field of the request at fault, where it is one."""


class NotAuthenticated(ConsoleError):
    """Nobody is logged in, or what they came with is not valid any more."""

    status, kind, title = 401, "not-authenticated", "Log in first"


class Forbidden(ConsoleError):
    """Who asks may not do that."""

    status, kind, title = 403, "forbidden", "Not permitted"


class NotFound(ConsoleError):
    """There is none of that id."""

    status, kind, title = 404, "not-found", "Not found"


class Conflict(ConsoleError):
    """It contradicts what is there."""

    status, kind, title = 409, "conflict", "Conflict"


class TooLarge(ConsoleError):
    """More is sent than anything here needs."""

    status, kind, title = 413, "too-large", "Too large"


class Stale(ConsoleError):
    """It was changed by somebody else since it was read."""

    status, kind, title = 412, "stale", "Changed meanwhile"


class Invalid(ConsoleError):
    """A value cannot be taken."""

    status, kind, title = 422, "invalid", "A value cannot be taken"

    def __init__(self, said: str, field: str | None = None) -> None:
        """`field`: the one at fault."""
        super().__init__(said)
        self.field = field


class VersionMissing(ConsoleError):
    """An edit has to say which version it was made of, in `If-Match`."""

    status, kind, title = 428, "version-missing", "Say which version you changed"


class TooMany(ConsoleError):
    """Too many attempts."""

    status, kind, title = 429, "too-many", "Too many attempts"

    def __init__(self, said: str, retry_after_seconds: int) -> None:
        super().__init__(said)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(ConsoleError):
    """The console's database does not answer in time."""

    status, kind, title = 503, "unavailable", "Try again shortly"
    retryable = True
    retry_after_seconds = 2
