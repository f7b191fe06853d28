"""Secrets that mean nothing in themselves: of sessions, refresh tokens, API keys and one-time links.

Each has 256 random bits, so a plain hash is enough to keep: nobody can guess one from it.
"""

from __future__ import annotations

import hashlib
import secrets

KEY_PREFIX = "rr_"
SHOWN_OF_KEY = 10


def new_secret() -> str:
    """43 URL-safe characters."""
    return secrets.token_urlsafe(32)


def new_key() -> str:
    """An API key: a secret that scanners of repositories can tell."""
    return KEY_PREFIX + new_secret()


def shown_of(key: str) -> str:
    """What may be shown of a key, so that its owner knows it again."""
    return key[:SHOWN_OF_KEY]


def hash_of(secret: str) -> str:
    """What is kept: SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()
