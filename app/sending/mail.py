"""E-mail: plain text, with the page, if there is one, attached.

aiosmtplib speaks SMTP; `email` of the standard library makes the message.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from hashlib import blake2s
from pathlib import Path
from typing import Literal

import aiosmtplib
import structlog
from pydantic import SecretStr

from app.core.masking import longest_first
from app.partner.masking import masked, variants
from app.sending.outgoing import NotSent, Outgoing

log = structlog.get_logger()

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """The server that takes mail, and the login."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    user: str = ""
    password: SecretStr | None = None
    """`None` or empty: no login."""
    ca_file: Path | None = None
    """Trusted authorities, in place of the system's."""


class Mail:
    """Sends to a list of addresses."""

    name = "mail"

    def __init__(self, server: MailServer, sender: str, recipients: tuple[str, ...]) -> None:
        self._server = server
        self._sender = sender
        self._recipients = recipients

    async def send(self, outgoing: Outgoing) -> None:
        """Submit the message, within `TIMEOUT_SECONDS`. Raises `NotSent` where no recipient was
        accepted.

        Where only some were refused, the log names them: sending again would reach the others
        twice.
        """
        server = self._server
        message = await asyncio.to_thread(compose, outgoing, self._sender, self._recipients)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                refused, _ = await aiosmtplib.send(
                    message,
                    hostname=server.host,
                    port=server.port,
                    username=server.user or None,
                    password=self._password() or None,
                    use_tls=server.security == "tls",
                    start_tls=server.security == "starttls",
                    tls_context=await asyncio.to_thread(self._tls_context),
                    timeout=TIMEOUT_SECONDS,
                )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise NotSent(self._said(error)) from error
        if refused:
            log.warning("mail_refused", id=outgoing.id, recipients=sorted(refused))

    async def rehearse(self, seconds: float) -> tuple[str, ...]:
        """Log in, name sender and recipients, and reset, so that nothing is sent. Returns the
        recipients.

        Raises `NotSent` where a mail would not be accepted for all of them.
        """
        server = self._server
        try:
            async with asyncio.timeout(seconds):
                context = await asyncio.to_thread(self._tls_context)
                client = aiosmtplib.SMTP(
                    hostname=server.host,
                    port=server.port,
                    username=server.user or None,
                    password=self._password() or None,
                    use_tls=server.security == "tls",
                    start_tls=server.security == "starttls",
                    tls_context=context,
                    timeout=seconds,
                )
                async with client:
                    await client.mail(parseaddr(self._sender)[1])
                    for recipient in self._recipients:
                        await client.rcpt(parseaddr(recipient)[1])
                    await client.rset()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise NotSent(self._said(error)) from error
        return self._recipients

    def _tls_context(self) -> ssl.SSLContext | None:
        if self._server.security == "none":
            return None
        return ssl.create_default_context(
            cafile=str(self._server.ca_file) if self._server.ca_file else None
        )

    def _said(self, error: Exception) -> str:
        """The error on one line, without the password, should the server quote it: as it is, or as
        it was sent (RFC 4616, and AUTH LOGIN).
        """
        text, password = f"SMTP: {type(error).__name__}: {error}", self._password()
        if not password:
            return text
        sent = {
            b64encode(word.encode()).decode()
            for word in (password, f"\0{self._server.user}\0{password}")
        }
        return masked(text, longest_first(variants(password) | sent))

    def _password(self) -> str:
        return self._server.password.get_secret_value() if self._server.password else ""


def compose(outgoing: Outgoing, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The message. Its id is the same each time the same thing is sent."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = outgoing.subject
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    domain = parseaddr(sender)[1].rpartition("@")[2] or "rowrelay"
    message["Message-ID"] = (
        f"<{blake2s(outgoing.id.encode(), digest_size=16).hexdigest()}@{domain}>"
    )
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(outgoing.text())
    if page := outgoing.page():
        name, content = page
        message.add_attachment(content, maintype="text", subtype="html", filename=name)
    return message
