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
_REMEMBERED = 10_000
"""Kinds: making one takes 20 µs, and the dead letters of a console's page have up to 5,000 different reasons."""

_BLANKS = r"[\s\x00-\x20\x7f-\xa0]"
"""What `one_line` makes one blank of."""

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


_ANYTHING = r"[\s\S]*"
_STANDS_FOR = {
    "{…}": rf"\{{{_ANYTHING}",
    "[…]": rf"\[{_ANYTHING}",
    '"…"': f'"{_ANYTHING}',
    "'…'": f"'{_ANYTHING}",
    "<url>": r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+",
    "<address>": r"[\w.+-]+@[\w.-]+",
    "#": r"[0-9a-fA-F][0-9a-fA-F.-]{2,}",
}
"""What replaced a text → a pattern of what it may have been."""
_PIECES = re.compile("|".join([*map(re.escape, _STANDS_FOR), r"\s+", "."]), re.DOTALL)
_MOST_ANYTHINGS = 2
"""In one pattern: each more multiplies what a server may have to try."""


def kind_pattern(kind: str) -> str:
    """A regular expression that finds every reason of which `normal` makes `kind`. It may find a few
    others, of which `normal` makes something else.
    """
    if kind == "unknown":
        return rf"^{_BLANKS}*(?:unknown)?{_BLANKS}*$"
    cut = len(kind) >= TEXT_LIMIT
    pieces = _PIECES.findall(kind[: -len("<address>")] if cut else kind)
    wild = [at for at, piece in enumerate(pieces) if _STANDS_FOR.get(piece, "").endswith("*")]
    if len(wild) > _MOST_ANYTHINGS:
        pieces, cut = pieces[: wild[_MOST_ANYTHINGS]], True
    whole = rf"{_BLANKS}*{''.join(map(_piece_pattern, pieces))}"
    long = rf"(?=[\s\S]{{{_LOOKED_AT}}}){whole}"
    return f"^{whole}" if cut else f"^(?:{whole}{_BLANKS}*$|{long})"


def _piece_pattern(piece: str) -> str:
    if piece in _STANDS_FOR:
        return f"(?:{_STANDS_FOR[piece]}|{re.escape(piece)})"
    return f"{_BLANKS}+" if piece.isspace() else re.escape(piece)


def slug(text: str) -> str:
    """A name for a text that is fit to be a field's: always the same for the same text, without
    dots and dollars.
    """
    return f"r{blake2s(text.encode(), digest_size=6).hexdigest()}"
