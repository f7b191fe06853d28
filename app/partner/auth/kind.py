"""What a way to authenticate is. Each is a file of this package, named for its `type` in
`feeds.toml`, that holds one subclass of `AuthKind` as `Kind`; its schema is in `app/feeds/auth.py`.
Nothing else knows of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from app.core.errors import Problem
from app.feeds.auth import AuthSchema
from app.feeds.feed import Partner
from app.partner.exchange import Reply, Request

if TYPE_CHECKING:  # a configuration is checked by commands that do not ask Redis
    from app.partner.throttle.throttle import EndpointThrottle

FETCHED_WHEN_SENDING = "[access token, fetched when sending]"
"""Stands in a preview for what is fetched only when a request is sent."""

Schema = TypeVar("Schema", bound=AuthSchema)
BuildRequest = Callable[[], Request]


class Ask(Protocol):
    """Sends a request to a server other than the partner, over the feed's own connections."""

    def __call__(self, request: Request, /, *, limit: int) -> Awaitable[Reply]:
        """Reads at most `limit` bytes of the answer's body. Raises `Undone`."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a way to authenticate may use while rows are sent."""

    ask: Ask
    throttle: Callable[[str], Awaitable[EndpointThrottle]] | None = None
    """The throttle, over all workers, of a server of that name; `None`: this process is alone."""


class Authorizer:
    """Authorizes one request after the other. Shared by all feeds with the same `auth` and `tls`;
    used on one event loop. A kind whose headers never change needs none.
    """

    @property
    def known(self) -> tuple[str, ...]:
        """Secrets that were fetched: texts that no record may hold."""
        return ()

    async def authorize(self, build: BuildRequest) -> Request:
        """The request that `build` makes, authorized. What has to be fetched for it is fetched
        first, so that the request's own time is when it is sent. Raises `Undone` where it cannot be
        authorized now.
        """
        raise NotImplementedError

    def refused(self, request: Request, status: int) -> str | None:
        """The partner answered 401 or 403 to an authorized request: how it is sent once more, for
        the attempt's note; `None`: it is not.
        """

    def forget(self) -> None:
        """Begin anew: an operator has mended something."""

    async def close(self) -> None:
        """End what is under way."""


class AuthKind(Generic[Schema]):
    """One way to authenticate, as one feed has it. A subclass says what is special to it, and no
    more.
    """

    sets: ClassVar[frozenset[str]] = frozenset()
    """Headers, in lower case, that it makes for each request: the feed's own of these names are not
    sent.
    """

    def __init__(self, auth: Schema, partner: Partner) -> None:
        """`auth`: that of the partner."""
        self.auth = auth
        self.partner = partner

    def headers(self) -> Mapping[str, str]:
        """The headers that carry it and never change."""
        return {}

    def secrets(self) -> tuple[str, ...]:
        """The texts that must appear in no record: as configured and, where it differs, as sent."""
        return ()

    def problems(self) -> Iterator[Problem]:
        """What would keep it from working, beyond what its schema and `headers` tell. `field`: one
        of `auth`'s.
        """
        yield from ()

    def authorizer(self, outside: Outside) -> Authorizer | None:
        """What is done to each request; `None`: nothing, its headers say it all."""

    def preview(self, request: Request) -> Request:
        """The request as it would be sent, with `FETCHED_WHEN_SENDING` for what is not known
        before.
        """
        return request


def kind_of(partner: Partner) -> AuthKind[Any]:
    """The partner's way to authenticate: the `Kind` of the file that its `type` names."""
    kind: type[AuthKind[Any]] = import_module(f"app.partner.auth.{partner.auth.type}").Kind
    return kind(partner.auth, partner)
