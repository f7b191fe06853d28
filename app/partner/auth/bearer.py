"""A bearer token that never changes (RFC 6750)."""

from __future__ import annotations

from collections.abc import Mapping

from app.feeds.auth import BearerAuth
from app.partner.auth.kind import AuthKind


class Kind(AuthKind[BearerAuth]):
    """The token."""

    def headers(self) -> Mapping[str, str]:
        """`Authorization`."""
        return {"Authorization": f"Bearer {self.auth.token.get_secret_value()}"}

    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (self.auth.token.get_secret_value(),)
