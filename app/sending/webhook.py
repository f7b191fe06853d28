"""A webhook: a POST of JSON, signed by Standard Webhooks where there is a secret.

`webhook-id` is the same for each try at sending the same thing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from app.core.url import parse_url
from app.feeds.partner import Signing
from app.partner.auth.basic import basic
from app.partner.dial import Names
from app.partner.exchange import Request, exchange
from app.partner.failures import Undone
from app.partner.signing import signer
from app.partner.transport import Transport
from app.sending.outgoing import NotSent, Outgoing

TIMEOUT_SECONDS = 30.0


class Webhook:
    """Posts to one URL."""

    name = "webhook"

    def __init__(
        self, url: SecretStr, secret: SecretStr | None = None, names: Names | None = None
    ) -> None:
        """`url` may hold a token, so it is never shown. `secret`: see `Signing.secrets`. `names`:
        which addresses it may call; by default any."""
        self._names = names
        self._url = parse_url(url.get_secret_value())
        self._sign = signer(Signing(secrets=(secret,))) if secret else None

    async def send(self, outgoing: Outgoing) -> None:
        """Post it, within `TIMEOUT_SECONDS`. Raises `NotSent` for anything but a 2xx."""
        body = await asyncio.to_thread(outgoing.json)
        headers = {"content-type": "application/json", "webhook-id": outgoing.id}
        if self._sign:
            headers |= self._sign(outgoing.id, body.decode())
        if self._url.username is not None:
            headers["authorization"] = basic(self._url.username, self._url.password or "")
        request = Request("POST", self._url, headers, body, time_setting=None)
        transport = await asyncio.to_thread(self._transport)
        try:
            reply = await exchange(transport, request, TIMEOUT_SECONDS)
        except Undone as error:
            raise NotSent(f"webhook: {error}") from error
        finally:
            await transport.close()
        if not 200 <= reply.status <= 299:
            raise NotSent(f"webhook: answered {reply.status}")

    def _transport(self) -> Transport:
        return Transport(None, 1, names=self._names)
