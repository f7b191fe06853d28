"""Reasons and errors as statistics keep them: without what differs from row to row, so that like is
counted with like.

What a partner or a row may have put into the text goes too: quoted values, JSON, long numbers,
URLs.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2s

from app.core.shown import one_line

TEXT_LIMIT = 120
"""Characters kept of a reason."""

_LOOKED_AT = 300
"""Characters of it that are used: as many as an attempt keeps."""
_REMEMBERED = 1024

_VARYING = (
    (re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+"), "<url>"),
    (re.compile(r"\{.*\}|\{.*$"), "{…}"),
    (re.compile(r"\[.*\]|\[.*$"), "[…]"),
    (re.compile(r'"[^"]*"?'), '"…"'),
    (re.compile(r"(?<!\bcolumn )(?:(?<!\w)|(?<=\bb))'[^']*(?:'(?!\w)|$)"), "'…'"),
    (re.compile(r"\b(?=[0-9a-fA-F-]*\d)[0-9a-fA-F][0-9a-fA-F-]{7,}\b"), "#"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "<address>"),
    (re.compile(r"\d+\.\d+|\d{4,}"), "#"),
)


@lru_cache(_REMEMBERED)
def normal(reason: str) -> str:
    """One line of at most `TEXT_LIMIT` characters, the same for all reasons of a kind. `unknown`
    for an empty one.
    """
    text = one_line(reason[:_LOOKED_AT])
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return one_line(text, TEXT_LIMIT) or "unknown"


def slug(text: str) -> str:
    """A name for a text that is fit to be a field's: always the same for the same text, without
    dots and dollars.
    """
    return f"r{blake2s(text.encode(), digest_size=6).hexdigest()}"
