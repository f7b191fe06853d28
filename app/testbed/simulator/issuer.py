"""An OAuth2 token endpoint for the simulated partner: tokens that expire, are counted, and can be
withdrawn.
"""

from __future__ import annotations

import time
from base64 import b64decode
from binascii import Error
from urllib.parse import parse_qs, unquote_plus

import orjson
from aiohttp import web


class Issuer:
    """Gives out access tokens by client credentials (RFC 6749, section 4.4), and knows which are
    valid.
    """

    def __init__(self) -> None:
        self.client = ("simulator", "simulator-secret")
        """The id and secret that are known; others are `invalid_client`."""
        self.life_seconds = 3600.0
        self.failing: int | None = None
        """A status that every request for a token is answered with; `None`: none."""
        self.required = False
        """Whether the partner asks each delivery for a token."""
        self.asked = 0
        """Requests for a token."""
        self._valid: dict[str, float] = {}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request for a token."""
        self.asked += 1
        if self.failing is not None:
            return web.Response(status=self.failing, text=f"simulated {self.failing}")
        body = parse_qs((await request.read()).decode())
        if _credentials(request, body) != self.client:
            return _json(401, {"error": "invalid_client", "error_description": "no such client"})
        if body.get("grant_type") != ["client_credentials"]:
            return _json(400, {"error": "unsupported_grant_type"})
        token = f"token-{self.asked}"
        self._valid[token] = time.monotonic() + self.life_seconds
        return _json(
            200,
            {"access_token": token, "token_type": "Bearer", "expires_in": int(self.life_seconds)},
        )

    def accepts(self, request: web.BaseRequest) -> bool:
        """Whether a delivery carries a valid token, where one is required."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return not self.required or self._valid.get(token, 0.0) > time.monotonic()

    def withdraw(self) -> None:
        """Make every token given out so far invalid."""
        self._valid.clear()


def _credentials(request: web.BaseRequest, body: dict[str, list[str]]) -> tuple[str, str]:
    """The client's id and secret, from the header or the body."""
    basic = request.headers.get("Authorization", "").removeprefix("Basic ")
    if not basic:
        return body.get("client_id", [""])[0], body.get("client_secret", [""])[0]
    try:
        name, _, secret = b64decode(basic, validate=True).decode().partition(":")
    except (Error, UnicodeDecodeError):
        return "", ""
    return unquote_plus(name), unquote_plus(secret)


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
