"""Signatures by Standard Webhooks: a partner with the library, and either secret, accepts each
attempt.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.core.errors import ConfigError
from app.partner.connection import PIECE
from app.partner.request import Prepared, prepare
from tests.support.partners import delivery, feed_to

OLD = "whsec_" + b64encode(b"o" * 24).decode()
NEW = "whsec_" + b64encode(b"n" * 32).decode()
URL = "https://partner.example"


def prepared_with(*secrets: str, body: Any = None) -> Prepared:
    return prepare(feed_to(URL, body=body, signing={"secrets": list(secrets)}))


def test_during_rotation_a_request_verifies_with_either_secret() -> None:
    request = prepared_with(NEW, OLD).request(delivery())
    for secret in (OLD, NEW):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert len(request.headers["webhook-signature"].split(" ")) == 2


def test_a_request_does_not_verify_with_another_secret_or_another_body() -> None:
    request = prepared_with(NEW).request(delivery())
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(request.body + b" ", dict(request.headers))


def test_the_message_id_is_the_idempotency_key_at_each_attempt() -> None:
    prepared = prepared_with(NEW)
    first, second = prepared.request(delivery()), prepared.request(delivery())
    ids = {
        request.headers[name]
        for request in (first, second)
        for name in ("webhook-id", "idempotency-key")
    }
    assert ids == {"orders:1"}
    assert first.headers["webhook-timestamp"].isdecimal()


def test_what_is_signed_is_what_is_sent() -> None:
    request = prepared_with(NEW, body={"name": "$name"}).request(delivery())
    assert request.body == '{"name":"Zoë"}'.encode()
    Webhook(NEW).verify(request.body, dict(request.headers))


def test_a_body_sent_in_pieces_is_signed_as_a_whole() -> None:
    payload = '{"a":"' + "x" * 60 * PIECE + '"}'
    request = prepared_with(NEW).request(delivery(payload=payload))
    Webhook(NEW).verify(request.body, dict(request.headers))


@pytest.mark.parametrize(
    "secret", ["whsec_", "no base64!", b64encode(b"short").decode(), b64encode(b"l" * 65).decode()]
)
def test_a_secret_that_is_none_is_told_when_the_feed_is_loaded_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError, match=r"feeds\.orders\.partner\.signing\.secrets") as caught:
        prepared_with(secret)
    assert secret not in str(caught.value).replace("whsec_ before it", "")


def test_the_secrets_are_replaced_wherever_they_are_echoed() -> None:
    assert prepared_with(NEW, OLD).redact(f"{OLD} {NEW}") == "[secret] [secret]"
