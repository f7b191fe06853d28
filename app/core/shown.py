"""Others' text as it is shown: a partner's answer or a source's value is data, never a command to
the terminal.

Characters that are invisible, or change how others appear, are written as in a Python literal:
control characters (C0 with ESC, DEL, C1), line and paragraph separators, format characters
(direction marks, zero-width joiners and spaces, tags) and lone surrogates. These are the categories
Cc, Zl, Zp, Cf and Cs of the Unicode Character Database.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import category

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_NOT_ASCII_OR_CONTROL = re.compile(r"[^\x20-\x7e]")
_NOT_ASCII_OR_DELETE = re.compile(r"[^\x00-\x7e]")


def one_line(text: object, limit: int | None = None) -> str:
    """The text, or what an error says, on one line of at most `limit` characters: words with single
    blanks between them, and nothing that cannot be printed.
    """
    said = str(text)
    if not said.isprintable():
        said = "".join(letter if letter.isprintable() else " " for letter in said)
    return " ".join(said.split())[:limit]


def plain(text: str) -> str:
    r"""The text on one line: `a\x1b[31m`, a line's end as `\n`. Letters, digits and signs stay."""
    return _escaped(text, _NOT_ASCII_OR_CONTROL, _as_literal)


def plain_lines(text: str) -> str:
    """The text with its lines kept, and each of them plain."""
    return "\n".join(map(plain, text.split("\n")))


def plain_json(text: str) -> str:
    r"""The same JSON document, with `\u` escapes for what could control a terminal.

    Its own layout stays: a control character within a text is escaped already, as JSON wants it.
    """
    return _escaped(text, _NOT_ASCII_OR_DELETE, _as_json)


def _escaped(text: str, suspects: re.Pattern[str], escape: Callable[[str], str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return suspects.sub(
        lambda found: escape(found[0]) if category(found[0]) in _UNSEEN else found[0], text
    )


def _as_literal(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _as_json(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
