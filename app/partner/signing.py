"""Signatures by Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from standardwebhooks import Webhook

from app.core.clock import utc_now
from app.feeds.partner import Signing

Sign = Callable[[str, str], Mapping[str, str]]

SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def signer(signing: Signing) -> Sign:
    """A function of a delivery's id and its body that gives the three headers, with one signature a
    secret.
    """
    webhooks = [Webhook(secret.get_secret_value()) for secret in signing.secrets]

    def sign(delivery_id: str, body: str) -> Mapping[str, str]:
        now = utc_now()
        signatures = " ".join(webhook.sign(delivery_id, now, body) for webhook in webhooks)
        return dict(
            zip(
                SIGNATURE_HEADERS, (delivery_id, str(int(now.timestamp())), signatures), strict=True
            )
        )

    return sign
