"""Feeds for tests: small bounds, so that a few rows reach them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.core.url import parse_url
from app.feeds.cursors.identity import IdentityCursor
from app.feeds.feed import Feed, Partner, Retry


def make_feed(name: str = "orders", *, concurrency: int = 10, **changes: Any) -> Feed:
    """A feed with an identity cursor, as `feeds.toml` would give it, with fields replaced."""
    fields: dict[str, Any] = {
        "name": name,
        "table": "orders",
        "key": ("id",),
        "cursor": IdentityCursor(column="id", gap_timeout=timedelta(days=999)),
        "page_size": 5,
        "batch_size": 2,
        "partner": Partner(url=parse_url("http://partner.invalid/rows"), concurrency=concurrency),
        "retry": Retry(
            max_attempts=4, backoff=timedelta(seconds=10), backoff_cap=timedelta(minutes=1)
        ),
    }
    return Feed(**(fields | changes))
