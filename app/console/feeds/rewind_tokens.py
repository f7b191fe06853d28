"""What somebody counted before a rewind, as a token: who rewinds shows that they have seen it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import orjson

from app.console.errors import Conflict

LASTS = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CountedRewind:
    """What was counted, of which feed, and by whom."""

    user_id: str
    feed: str
    to: str
    stood: str
    stands: str
    rows: int
    known: int
    complete: bool
    delivered_again: str | None
    until: str
    """When it does not hold any more, in ISO 8601."""


class RewindTokens:
    """Signs and reads them, with a secret that this process alone has."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, counted: CountedRewind) -> str:
        """As URL-safe text."""
        told = orjson.dumps(asdict(counted))
        return urlsafe_b64encode(self._signature(told) + told).decode()

    def read(self, token: str, user_id: str, feed: str, to: str, now: datetime) -> CountedRewind:
        """What was counted. Raises `Conflict` for a token of something else, or of too long ago."""
        counted = self._opened(token)
        if counted is None:
            raise Conflict("not the token of a count: count again")
        if (counted.user_id, counted.feed, counted.to) != (user_id, feed, to):
            raise Conflict("the token is of another count: count again")
        if datetime.fromisoformat(counted.until) < now:
            raise Conflict("it was counted more than 10 minutes ago: count again")
        return counted

    def _opened(self, token: str) -> CountedRewind | None:
        """`None`: it was not signed by us."""
        try:
            raw = urlsafe_b64decode(token)
        except ValueError:
            return None
        signature, told = raw[:32], raw[32:]
        if not hmac.compare_digest(signature, self._signature(told)):
            return None
        return CountedRewind(**orjson.loads(told))

    def _signature(self, told: bytes) -> bytes:
        return hmac.digest(self._secret, told, hashlib.sha256)
