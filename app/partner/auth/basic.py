"""HTTP Basic (RFC 7617)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from app.core.url import Url
from app.feeds.auth import BasicAuth
from app.partner.auth.kind import AuthKind


class Kind(AuthKind[BasicAuth]):
    """A user and a password."""

    def headers(self) -> Mapping[str, str]:
        """`Authorization`."""
        return {"Authorization": basic(self.auth.username, self.auth.password.get_secret_value())}

    def secrets(self) -> tuple[str, ...]:
        """The password, and what is sent."""
        password = self.auth.password.get_secret_value()
        return (password, basic(self.auth.username, password).removeprefix("Basic "))


def basic(username: str, password: str) -> str:
    """The value of `Authorization`, in UTF-8."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode("ascii")


def user_of(url: Url) -> tuple[str, str] | None:
    """The user and password that a URL holds."""
    return (url.username or "", url.password or "") if url.username or url.password else None
