"""What HTTP can carry in a header, and which headers are ours to set."""

from __future__ import annotations

import re

from app.partner.signing import SIGNATURE_HEADERS

SECRET_NAME = re.compile(r"auth|cookie|key|password|secret|signature|token", re.IGNORECASE)
"""A header, query or member of such a name holds a secret."""

PRINTABLE = "a header's value is printable ASCII on one line"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNCARRIED = re.compile(r"[^\x20-\x7e]")
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "idempotency-key",
        "transfer-encoding",
        "upgrade",
        *SIGNATURE_HEADERS,
    }
)


def uncarried(text: str) -> str | None:
    """The first letter that HTTP cannot carry in a header's value; `None`: it can carry the text."""
    found = _UNCARRIED.search(text)
    return found and f"U+{ord(found[0]):04X} (letter {found.start() + 1})"


def usable_name(name: str) -> bool:
    """Whether a feed may have a header of that name: one that HTTP allows, and that Rowrelay does
    not set itself.
    """
    return _TOKEN.fullmatch(name) is not None and name.lower() not in _RESERVED
