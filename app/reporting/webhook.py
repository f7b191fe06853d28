"""A report by webhook: a POST of its JSON, signed by Standard Webhooks where there is a secret.

`webhook-id` is the same for each try at sending the same result. Redirects are not followed.
"""

from __future__ import annotations

import asyncio

import httpx
from pydantic import SecretStr

from app.endpoint import Signing
from app.partner.signing import signer
from app.reporting.files import Format, rendered
from app.reporting.sending import NotSent, Outgoing

TIMEOUT_SECONDS = 30.0


class Webhook:
    """Posts reports to one URL."""

    name = "webhook"

    def __init__(self, url: SecretStr, secret: SecretStr | None = None) -> None:
        """`url` may hold a token, so it is never shown. `secret`: see `Signing.secrets`."""
        self._url = url
        self._sign = signer(Signing(secrets=(secret,))) if secret else None

    async def send(self, outgoing: Outgoing) -> None:
        """Post the report, within `TIMEOUT_SECONDS`. Raises `NotSent` for anything but a 2xx."""
        body = await asyncio.to_thread(rendered, outgoing.report, Format.JSON, outgoing.revised)
        headers = {"content-type": "application/json", "webhook-id": outgoing.id}
        if self._sign:
            headers |= self._sign(outgoing.id, body.decode())
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                answer = await client.post(self._url.get_secret_value(), content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotSent(f"webhook: {type(error).__name__}") from error
        if not answer.is_success:
            raise NotSent(f"webhook: answered {answer.status_code}")
