"""Who we say we are: the headers and secrets of each way to authenticate.

All of these are constant for a feed, so they are worked out once (see `request.prepare`); an OAuth2 access token is
not, and comes from `tokens`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import assert_never
from urllib.parse import quote_plus

from app.feeds.partner import ApiKeyAuth, Auth, BasicAuth, BearerAuth, NoAuth, OAuth2Auth


def auth_headers(auth: Auth) -> dict[str, str]:
    """The headers that carry `auth` and never change: none or one."""
    match auth:
        case NoAuth() | OAuth2Auth():
            return {}
        case BearerAuth(token=token):
            return {"Authorization": f"Bearer {token.get_secret_value()}"}
        case ApiKeyAuth(header=header, key=key):
            return {header: key.get_secret_value()}
        case BasicAuth(username=username, password=password):
            return {"Authorization": basic(username, password.get_secret_value())}
        case _:
            assert_never(auth)


def auth_secrets(auth: Auth) -> tuple[str, ...]:
    """The texts of `auth` that must appear in no record: as configured and, where it differs, as sent."""
    match auth:
        case NoAuth():
            return ()
        case BearerAuth(token=token):
            return (token.get_secret_value(),)
        case ApiKeyAuth(key=key):
            return (key.get_secret_value(),)
        case BasicAuth(username=username, password=password):
            secret = password.get_secret_value()
            return (secret, basic(username, secret).removeprefix("Basic "))
        case OAuth2Auth(client_id=client_id, client_secret=client_secret):
            secret = client_secret.get_secret_value()
            quoted = quote_plus(secret)
            return (secret, quoted, basic(quote_plus(client_id), quoted).removeprefix("Basic "))
        case _:
            assert_never(auth)


def basic(username: str, password: str) -> str:
    """The value of `Authorization` for HTTP Basic, in UTF-8 (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode("ascii")
