"""Seals what the console has to read again, and a copy of its database should not tell: users' webhooks, whose
addresses are secrets themselves.

Fernet (AES-128-CBC and HMAC-SHA-256, by `cryptography`), under a key that is derived from `CONSOLE_SECRET`.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PURPOSE = b"rowrelay-console: sealed columns"
"""What no other use of the secret has: a key of one use is none of another."""
PREFIX = "sealed:"


class Sealing:
    """Seals and opens texts."""

    def __init__(self, secret: str) -> None:
        """`secret`: the console's."""
        derived = HKDF(SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
        self._fernet = Fernet(urlsafe_b64encode(derived))

    def seal(self, text: str) -> str:
        """What is kept of it: `PREFIX` and some 4/3 of its bytes and 100."""
        return PREFIX + self._fernet.encrypt(text.encode()).decode()

    def open(self, kept: str) -> str | None:
        """The text; `None`: it was sealed under another secret, or changed since."""
        try:
            return self._fernet.decrypt(kept.removeprefix(PREFIX).encode()).decode()
        except InvalidToken:
            return None
