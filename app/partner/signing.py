"""Signatures by Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping

from pydantic import SecretStr
from standardwebhooks import Webhook

from app.core.clock import utc_now
from app.feeds.partner import Signing

Sign = Callable[[str, str], Mapping[str, str]]

SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)


def signer(signing: Signing) -> Sign:
    """A function of a delivery's id and its body that gives the three headers, with one signature a secret."""
    webhooks = [Webhook(secret.get_secret_value()) for secret in signing.secrets]

    def sign(delivery_id: str, body: str) -> Mapping[str, str]:
        now = utc_now()
        signatures = " ".join(webhook.sign(delivery_id, now, body) for webhook in webhooks)
        return dict(zip(SIGNATURE_HEADERS, (delivery_id, str(int(now.timestamp())), signatures), strict=True))

    return sign


def usable(secret: SecretStr) -> bool:
    """Whether it is what the spec asks for: base64 of 24 to 64 bytes, with or without the prefix."""
    text = secret.get_secret_value().removeprefix(_PREFIX).rstrip("=")
    try:
        return len(b64decode(text + "=" * (-len(text) % 4), validate=True)) in _SECRET_BYTES
    except (binascii.Error, ValueError):
        return False
