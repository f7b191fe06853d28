"""The head of an answer: its status, its fields, and how its body is delimited (RFC 9112, sections
4 to 6).

Tolerant where what is meant is plain, as browsers and curl are: bare line feeds, a blank before a
colon, folded lines, lines that are no field at all. A partner's untidiness must not turn a success
that has arrived into a row sent again. After a head that says where its body ends in a doubtful
way, the connection is not used again: a tolerant reading can never reach into the next answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

STATUS_LINE = re.compile(
    rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*|\r)?(?=\n)", re.IGNORECASE
)

_FOLD = re.compile(r"\r?\n[ \t]+")
_BLANK_BEFORE_COLON = re.compile(r"(\n[^:\n]*?)[ \t]+:")
_NO_BODY = frozenset({204, 304})
_LONGEST_SIZE = 18
"""Digits of a length that is believed."""


class Framing(Enum):
    """What marks the end of a body."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """The end of the connection."""
    CONTRADICTORY = "contradictory"
    """The head contradicts itself: the body is whatever comes, until nothing more does."""


class Fields:
    """A head's fields, searched on demand: an answer has many, and few are read."""

    __slots__ = ("_lower", "_text", "tidy")

    def __init__(self, text: str = "\n") -> None:
        """Takes lines as they came, with a line feed before the first one and after the last."""
        self.tidy = True
        """The lines are as RFC 9112 has them, but for bare line feeds and lines that are no field.
        """
        if "\n " in text or "\n\t" in text:  # folded: obsolete, and still sent (section 5.2)
            text, self.tidy = _FOLD.sub(" ", text), False
        if " :" in text or "\t:" in text:
            text, found = _BLANK_BEFORE_COLON.subn(r"\1:", text)
            self.tidy = self.tidy and not found
        self._text = text
        self._lower = text.lower()
        if len(self._lower) != len(
            text
        ):  # never in Latin-1 as RFC 9110 has it; `İ` and its like are beyond it
            self._text = self._lower

    def get(self, name: str) -> str | None:
        """The value of the first field of that name (in lower case), in Latin-1; `None` where there
        is none.
        """
        start = self._lower.find(f"\n{name}:")
        if start < 0:
            return None
        return self._text[start + len(name) + 2 : self._text.find("\n", start + 1)].strip()

    def joined(self, name: str) -> str | None:
        """The values of all fields of that name, with commas between them."""
        mark = f"\n{name}:"
        start = self._lower.find(mark)
        if start < 0:
            return None
        values = []
        while start >= 0:
            end = self._text.find("\n", start + 1)
            values.append(self._text[start + len(mark) : end].strip())
            start = self._lower.find(mark, end)
        return ", ".join(values)


@dataclass(slots=True)
class Head:
    """A head that came complete, or as far as it is read."""

    status: int
    fields: Fields
    framing: Framing
    length: int
    """Of the body in bytes, with `LENGTH`; else 0."""
    kept: bool
    """The connection may be used again once the body has ended."""


def parse_head(data: bytes) -> Head | None:
    """Read a head, from its status line to the end of its last line. `None`: it does not begin with
    a status line.
    """
    found = STATUS_LINE.match(data)
    if found is None:
        return None
    status, fields = int(found[2]), Fields(data[found.end() :].decode("latin-1"))
    kept = fields.tidy and _kept(found[1] != b"0", fields.joined("connection"))
    if status in _NO_BODY:
        return Head(status, fields, Framing.LENGTH, 0, kept)
    coding, length = fields.joined("transfer-encoding"), fields.joined("content-length")
    if coding is not None and (codings := _tokens(coding)) not in ([], ["identity"]):
        framing = Framing.CHUNKED if codings[-1] == "chunked" else Framing.CLOSE
        return Head(status, fields, framing, 0, kept and length is None)
    if length is None:
        return Head(status, fields, Framing.CLOSE, 0, kept=False)
    size = _size(length)
    if size is None:
        return Head(status, fields, Framing.CONTRADICTORY, 0, kept=False)
    return Head(status, fields, Framing.LENGTH, size, kept)


def codings_of(fields: Fields) -> list[str]:
    """What a body is wrapped in, the outermost first: transfer codings but for `chunked`, then
    content codings.
    """
    content, transfer = fields.joined("content-encoding"), fields.joined("transfer-encoding")
    if content is None and transfer is None:
        return []
    names = [*_tokens(content or ""), *_tokens(transfer or "")]
    return [name for name in reversed(names) if name not in ("chunked", "identity")]


def _kept(persistent: bool, connection: str | None) -> bool:
    """RFC 9112, section 9.3: HTTP/1.1 keeps a connection unless it says otherwise, HTTP/1.0 the
    other way round.
    """
    if connection is None:
        return persistent
    if connection in ("keep-alive", "Keep-Alive"):
        return True
    options = _tokens(connection)
    return "close" not in options and (persistent or "keep-alive" in options)


def _tokens(text: str) -> list[str]:
    return [token for part in text.split(",") if (token := part.partition(";")[0].strip().lower())]


def _size(text: str) -> int | None:
    """A length, also where it is repeated (RFC 9112, section 6.3); `None` for anything else."""
    if text.isdecimal() and text.isascii() and len(text) <= _LONGEST_SIZE:
        return int(text)
    one, *others = {part.strip() for part in text.split(",")}
    return (
        int(one)
        if not others and one.isascii() and one.isdecimal() and len(one) <= _LONGEST_SIZE
        else None
    )
