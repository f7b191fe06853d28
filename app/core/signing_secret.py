"""What a secret of Standard Webhooks is made of."""

from __future__ import annotations

import binascii
from base64 import b64decode

from pydantic import SecretStr

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)


def usable(secret: SecretStr) -> bool:
    """Whether it is what the spec asks for: base64 of 24 to 64 bytes, with or without the prefix."""
    text = secret.get_secret_value().removeprefix(_PREFIX).rstrip("=")
    try:
        return len(b64decode(text + "=" * (-len(text) % 4), validate=True)) in _SECRET_BYTES
    except (binascii.Error, ValueError):
        return False
