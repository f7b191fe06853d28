"""Access tokens: JWTs of ten minutes, signed by `CONSOLE_SECRET` (RFC 7519, RFC 8725)."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import jwt

from app.console.errors import NotAuthenticated
from app.console.store.base import new_id
from app.console.store.engine import sqlite_file
from app.core.clock import Clock, utc_now
from app.core.errors import ConfigError, Problem
from config import Settings

LIFETIME = timedelta(minutes=10)
ALGORITHM = "HS256"
ISSUER = "rowrelay-console"
SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says."""

    user_id: str
    jti: str
    expires_at: datetime


class AccessTokens:
    """Issues and reads them."""

    def __init__(self, secret: str, now: Clock = utc_now) -> None:
        self._secret = secret
        self._now = now

    def issue(self, user_id: str) -> tuple[str, AccessToken]:
        """A token for that user, from now on."""
        begun = self._now().replace(microsecond=0)
        token = AccessToken(user_id, new_id(), begun + LIFETIME)
        claims = {
            "iss": ISSUER,
            "sub": user_id,
            "jti": token.jti,
            "iat": begun,
            "exp": token.expires_at,
        }
        return jwt.encode(claims, self._secret, ALGORITHM), token

    def read(self, text: str) -> AccessToken:
        """What it says. Raises `NotAuthenticated` for one that we did not issue, or that has expired."""
        try:
            claims = jwt.decode(
                text,
                self._secret,
                [ALGORITHM],
                issuer=ISSUER,
                options={
                    "require": ["exp", "iat", "sub", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise NotAuthenticated("the access token is not one of this console") from error
        expires = datetime.fromtimestamp(claims["exp"], tz=self._now().tzinfo)
        if expires <= self._now():
            raise NotAuthenticated("the access token has expired: refresh it, or log in again")
        return AccessToken(claims["sub"], claims["jti"], expires)


def secret_of(settings: Settings) -> str:
    """`CONSOLE_SECRET`, or one made at the first start and kept beside the SQLite database, for its
    owner alone. Raises `ConfigError` where it is empty and the database is another."""
    if given := settings.console_secret.get_secret_value():
        return given
    database = sqlite_file(settings)
    if database is None:
        problem = Problem(
            "environment",
            "CONSOLE_SECRET",
            "nothing",
            "set it: every console process over one database signs with the same secret",
        )
        raise ConfigError([problem])
    return _kept(database.with_name(database.name + ".secret"))


def _kept(path: Path) -> str:
    """The secret of that file, which is made whole or not at all: with half a secret, or none, anybody
    could sign. Raises `ConfigError` for a file that holds none, or cannot be kept."""
    try:
        if not path.exists():
            _make(path)
        found = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        said = f"nothing, and {path} cannot be kept: {error.strerror}"
        do = "set it, or let CONSOLE_DATABASE_URL name a file in a directory that can be written"
        raise ConfigError([Problem("environment", "CONSOLE_SECRET", said, do)]) from error
    if len(found) < SHORTEST_SECRET:
        problem = Problem(
            "environment",
            "CONSOLE_SECRET",
            f"nothing, and no secret of {SHORTEST_SECRET} characters in {path}",
            "delete that file, so that it is made anew; programs log in again then",
        )
        raise ConfigError([problem])
    return found


def _make(path: Path) -> None:
    whole = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(whole, path)
    finally:
        whole.unlink()
