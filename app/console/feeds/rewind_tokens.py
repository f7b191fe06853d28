"""What somebody counted before a rewind, as a token: who rewinds shows that they have seen it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import jwt

from app.console.errors import Conflict
from app.console.security.access_tokens import ALGORITHM

LASTS = timedelta(minutes=10)
ISSUER = "rowrelay-console-rewind"
"""Not that of access tokens: neither is taken for the other."""


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
    """Signs and reads them: JWTs that no other use of the console's secret takes."""

    def __init__(self, secret: str) -> None:
        """`secret`: the same for each process, so that one does what another has counted."""
        self._secret = secret

    def sign(self, counted: CountedRewind) -> str:
        """As URL-safe text."""
        return jwt.encode({"iss": ISSUER, **asdict(counted)}, self._secret, ALGORITHM)

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
        """`None`: it was not signed by us, for this."""
        try:
            told = jwt.decode(token, self._secret, [ALGORITHM], issuer=ISSUER)
        except jwt.InvalidTokenError:
            return None
        del told["iss"]
        return CountedRewind(**told)
