"""OAuth2 client credentials (RFC 6749, section 4.4): a token from `oauth2_tokens` in each request,
and a new one where the partner refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from urllib.parse import quote_plus

from app.core.errors import Problem
from app.feeds.auth import OAuth2Auth
from app.partner.auth.basic import basic
from app.partner.auth.kind import FETCHED_WHEN_SENDING, AuthKind, Authorizer, BuildRequest, Outside
from app.partner.auth.oauth2_tokens import ANSWER_LIMIT, Tokens
from app.partner.exchange import Request

_BEARER = "Bearer "


class Kind(AuthKind[OAuth2Auth]):
    """The credentials; their tokens are fetched while rows are sent."""

    sets = frozenset({"authorization"})

    def secrets(self) -> tuple[str, ...]:
        """The secret, in each form in which it goes to the token endpoint."""
        secret = self.auth.client_secret.get_secret_value()
        quoted = quote_plus(secret)
        return (
            secret,
            quoted,
            basic(quote_plus(self.auth.client_id), quoted).removeprefix("Basic "),
        )

    def problems(self) -> Iterator[Problem]:
        """A user in the token endpoint's URL, which would be a second way to say who we are."""
        if self.auth.token_url.username is not None:
            yield Problem(
                "feeds", "token_url", "a user", "client_id and client_secret say who we are"
            )

    def authorizer(self, outside: Outside) -> Authorizer:
        """One for all feeds with these credentials."""
        who = sha256(f"{self.auth.token_url}\n{self.auth.client_id}".encode()).hexdigest()[:16]
        # A name that is the same in all workers, whichever feeds they have.
        throttle = partial(outside.throttle, f"token-endpoint-{who}") if outside.throttle else None
        return TokenBearer(
            Tokens(self.auth, partial(outside.ask, limit=ANSWER_LIMIT), throttle=throttle)
        )

    def preview(self, request: Request) -> Request:
        """No token is fetched for it."""
        return _with_token(request, FETCHED_WHEN_SENDING)


class TokenBearer(Authorizer):
    """Puts an access token into each request."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @property
    def known(self) -> tuple[str, ...]:
        """The last tokens."""
        return self._tokens.known

    async def authorize(self, build: BuildRequest) -> Request:
        """Waits for a token where there is none that is valid."""
        token = await self._tokens.get()
        return _with_token(build(), token)

    def refused(self, request: Request, status: int) -> str | None:
        """Once more with a new token, where one is worth trying."""
        token = request.headers["authorization"].removeprefix(_BEARER)
        return (
            f"{status}: sent once more with a new access token"
            if self._tokens.refused(token, status)
            else None
        )

    def forget(self) -> None:
        """Begin with a new token."""
        self._tokens.forget()

    async def close(self) -> None:
        """Give up a renewal that is under way."""
        await self._tokens.close()


def _with_token(request: Request, token: str) -> Request:
    return request.having({"authorization": _BEARER + token})
