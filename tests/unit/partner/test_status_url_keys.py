"""A row's key in a `status_url` never makes it ask for another resource."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.core.deliveries import Delivery
from app.feeds.auth import NoAuth
from app.feeds.feed import Partner
from app.partner.request import prepare
from tests.support.feeds import make_feed


@pytest.mark.parametrize(
    ("url", "key", "asked"),
    [
        ("https://p.example/by-key/{key}", "..", False),
        ("https://p.example/by-key/{key}", ".", False),
        ("https://p.example/by-key/{key}", "", False),
        ("https://p.example/by-key/.{key}", ".", False),
        ("https://p.example/by-key/{key}/state", "..", False),
        ("https://p.example/by-key?key={key}", "", False),
        ("https://p.example/by-key?key={key}", "..", True),
        ("https://p.example/by-key/{key}", "A-17", True),
        ("https://p.example/by-key/{key}", "...", True),
        ("https://p.example/by-key/{key}", "a%2Fb", True),
        ("https://p.example/by-key/{key}", "%3F%23", True),
        ("https://p.example/by-key/{key}", "%252e%252e", True),
        ("https://p.example/by-key/{key}", "..:1", True),
        ("https://p.example/by-key/{key}", "..%2Fb", False),
        ("https://p.example/by-key/{key}", "a%2F..%2Fb", False),
        ("https://p.example/by-key/{key}", "a%2F.", False),
        ("https://p.example/by-key/{key}", "a%5C..%5Cb", False),
        ("https://p.example/by-key/{key}", "%2Fb", False),
        ("https://p.example/by-key/{key}", "a%2F%2Fb", False),
        ("https://p.example/by-key/{key}", "a%2F", False),
        ("https://p.example/by-key/{key}", "..%3Bx", False),
        ("https://p.example/by-key/k-{key}", "%2F..", False),
        ("https://p.example/by-key?key={key}", "a%2F..%2Fb", True),
        ("https://p.example/by-key/k-{key}", "..", True),
        ("https://p.example/by-id/{id}", "..", True),
    ],
)
def test_a_key_that_would_name_another_resource_is_not_asked_for(
    url: str, key: str, asked: bool
) -> None:
    partner = Partner.model_validate(
        {"url": "https://p.example/", "auth": NoAuth(), "status_url": url}
    )
    prepared = prepare(make_feed().model_copy(update={"partner": partner}))
    delivery = Delivery(f"orders:{key}", "orders", key, "{}", datetime(2026, 1, 1, tzinfo=UTC))
    assert prepared.can_ask(delivery) is asked
