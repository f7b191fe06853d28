"""A key in a header that the partner names."""

from __future__ import annotations

from collections.abc import Mapping

from app.feeds.auth import ApiKeyAuth
from app.partner.auth.kind import AuthKind


class Kind(AuthKind[ApiKeyAuth]):
    """The key."""

    def headers(self) -> Mapping[str, str]:
        """The header that the feed names."""
        return {self.auth.header: self.auth.key.get_secret_value()}

    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self.auth.key.get_secret_value(),)
