"""Settings of what is sent to people: reports and notifications, by mail and to webhooks."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from app.core.signing_secret import usable
from app.core.url import parse_url
from app.feeds.duration import Duration


class SendingSettings(BaseModel):
    """Who is told what, and how."""

    report_send: Literal["day", "hour", "day,hour", "hour,day"] = "day"
    """The periods whose report of all feeds is sent by itself, on every way that is configured
    below.
    """
    report_mail_from: str = ""
    report_mail_to: str = ""
    """Addresses, separated by commas. Empty: no mail."""
    notify_mail_to: str = ""
    """Addresses that are told of events, by the reports' server and sender. Empty: none."""
    smtp_host: str = Field(default="", validate_default=True)
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_ca_file: str = ""
    """The authorities trusted, in place of the system's."""
    report_webhook_url: SecretStr = SecretStr("")
    """Where reports are posted as JSON. Empty: nowhere."""
    report_webhook_secret: SecretStr = SecretStr("")
    """Signs them by Standard Webhooks: base64 of 24 to 64 bytes, with or without `whsec_`."""
    notify_webhook_url: SecretStr = SecretStr("")
    """Where events are posted. Empty: nowhere."""
    notify_webhook_secret: SecretStr = SecretStr("")
    """As `report_webhook_secret`."""
    notify_webhook_format: Literal["json", "slack", "teams"] = "json"
    notify_dead: int = Field(default=0, ge=0)
    """Dead letters of a feed that nobody has acknowledged: more than this are an event."""
    notify_oldest: Duration = timedelta(hours=1)
    """A delivery that is open for longer is an event."""
    notify_remind: Duration = timedelta(hours=4)
    """How long after the last message another says that an event is still on."""

    @property
    def notifies(self) -> bool:
        """Whether anybody is told of events."""
        return bool(self.notify_mail_to or self.notify_webhook_url.get_secret_value())

    @field_validator("smtp_host")
    @classmethod
    def _mail_is_whole(cls, host: str, found: ValidationInfo) -> str:
        """A mail needs a server, a sender and recipients. Raises `ValueError` for some without the
        others.
        """
        to = [name for name in ("report_mail_to", "notify_mail_to") if found.data.get(name)]
        needed = {
            "SMTP_HOST": host,
            "REPORT_MAIL_FROM": found.data.get("report_mail_from"),
            "REPORT_MAIL_TO or NOTIFY_MAIL_TO": to,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing and len(missing) < len(needed):
            raise ValueError(f"set {' and '.join(missing)} too: mail needs {', '.join(needed)}")
        return host

    @field_validator("report_webhook_url", "notify_webhook_url")
    @classmethod
    def _is_a_url(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value():
            parse_url(url.get_secret_value())
        return url

    @field_validator("report_webhook_secret", "notify_webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and not usable(secret):
            raise ValueError("base64 of 24 to 64 bytes, with or without whsec_")
        return secret
