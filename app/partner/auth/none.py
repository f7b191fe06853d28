"""No authentication of its own, but for the user and password that `partner.url` may hold."""

from __future__ import annotations

from collections.abc import Mapping

from app.feeds.auth import NoAuth
from app.partner.auth.basic import basic, user_of
from app.partner.auth.kind import AuthKind


class Kind(AuthKind[NoAuth]):
    """The URL's user, if any. What is secret in a URL, `masking` knows."""

    def headers(self) -> Mapping[str, str]:
        """`Authorization`, where the URL has a user."""
        user = user_of(self.partner.url)
        return {"Authorization": basic(*user)} if user else {}
