"""The partners as delivering needs them. `app/partner/client.py` implements it over HTTP."""

from __future__ import annotations

from typing import Protocol

from app.core.attempts import Answer
from app.core.deliveries import Delivery
from app.feeds.feed import Feed


class Sink(Protocol):
    """Takes deliveries to their partners."""

    async def send(self, feed: Feed, delivery: Delivery, /) -> Answer:
        """Make one attempt. Returns what it came to; raises for nothing that the network or the
        partner does.
        """

    def forget_token(self, feed: str, /) -> None:
        """Begin with a new access token, where the feed has one."""
