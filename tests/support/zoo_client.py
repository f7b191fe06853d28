"""The partners' client as the zoo's visitors use it."""

from __future__ import annotations

from pydantic import SecretStr

from app.core.attempts import Ruling
from app.core.url import parse_url
from app.feeds.partner import Tls
from app.partner.content import Unreadable, unwrapped
from app.partner.exchange import Reply, Request, exchange
from app.partner.failures import Undone
from app.partner.transport import Transport
from tests.support.zoo import LIMIT, Credentials, Seen

CONNECT_SECONDS = 20.0


class OurClient:
    """`app.partner.exchange` over one `Transport`."""

    def __init__(self, credentials: Credentials) -> None:
        password = credentials.key_password
        tls = Tls(
            ca_file=credentials.ca,
            cert_file=credentials.certificate,
            key_file=credentials.key,
            key_password=SecretStr(password) if password else None,
        )
        self._transport = Transport(tls, connections=10)

    async def send(self, url: str, body: bytes, seconds: float) -> Seen:
        """See `zoo.Client`."""
        headers = {"content-type": "application/json", "idempotency-key": "orders:1"}
        request = Request("POST", parse_url(url), headers, body, connect_seconds=CONNECT_SECONDS)
        try:
            reply = await exchange(self._transport, request, seconds, LIMIT)
        except Undone as error:
            return Seen(None, maybe=error.ruling is Ruling.LOST, error=str(error))
        return Seen(reply.status, _readable(reply), error=reply.note or "")

    async def close(self) -> None:
        """See `zoo.Client`."""
        await self._transport.close()


def _readable(reply: Reply) -> bytes:
    try:
        return unwrapped(reply.headers, reply.body, LIMIT)
    except Unreadable as error:
        return f"({error})".encode()
