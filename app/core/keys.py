"""Keys as people write them, and as deliveries' ids hold them.

An id is `<feed>:<key>`, with `capture = "changes"` `<feed>:<key>:<change>`; each part of a key is
percent-encoded (see `source.payload.key_text`), and of a long key it holds a hash (`short_key`). No
one writes `INV-2026%2F00060`. So a key is shown decoded, where that is lossless, and typed text is
read in every way that it may be meant: as in an id, as shown, or as in the source, with `:` between
the parts of a key or within one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any
from unicodedata import category, normalize
from urllib.parse import quote, unquote_to_bytes

LONGEST_KEY = 1024
"""Characters of a key that a delivery's id holds; of a longer one it holds a hash."""
_KEY_SHOWN = 64
_HASH_MARK = "%h"
"""Stands before a hash; no percent-encoded text holds it."""
_STANDS_FOR_NULL = "%-"
_HASHED = re.compile(r"(.*?)((?:%[0-9A-F]?)?%h[0-9a-f]{64})", re.DOTALL)
"""A result of `short_key`: its first characters, which may end within an escape, and the hash."""
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_LONE_PERCENT = re.compile(r"%25(?![0-9A-Fa-f%h!-])")
"""A percent sign that begins no escape."""
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_BYTES = re.compile(r"0[xX]((?:[0-9A-Fa-f]{2})+)")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})
_MOST_JOINED = 6
"""Colons of a typed key that are tried both between parts and within one: 64 ways at most."""


def short_key(key: str) -> str:
    """A key's text as it stands in an id: whole up to `LONGEST_KEY`; else its first characters, and
    a hash of it all.

    The hash is SHA-256, in hexadecimal digits, so that two keys never meet in one id.
    """
    if len(key) <= LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[:_KEY_SHOWN].rstrip('%')}{_HASH_MARK}{digest}"


def is_short_key(key: str) -> bool:
    """Whether the text was made by `short_key` of a key that is longer."""
    return _HASH_MARK in key


def has_identity(key: str) -> bool:
    """Whether a row can be found by that text: not where it is what stands for a key that the row
    has not got.
    """
    return "@" not in key  # percent-encoded in every key


def shown_key(key: str) -> str:
    """A key of the ledger as a person reads it: `INV-2026%2F00060` as `INV-2026/00060`.

    What would be invisible or misread stays encoded: control and format characters, blanks other
    than single ones within the text, bytes that are no UTF-8, and `:` within a part of a key of
    several.
    """
    parts = key.split(":")
    return ":".join(_shown_part(part, colon=len(parts) == 1) for part in parts)


def shown_id(delivery: Mapping[str, Any]) -> str:
    """A delivery's id as a person reads it. Every command accepts it."""
    feed, known = str(delivery["feed"]), str(delivery["_id"])
    key = short_key(str(delivery.get("key", "")))
    stem = f"{feed}:{key}"
    if not known.startswith(stem):
        return known
    change = known[len(stem) + 1 :]
    return f"{feed}:{shown_key(key)}" + (f":{_shown_part(change, colon=True)}" if change else "")


def readings(text: str) -> list[str]:
    """What a typed key may be in a delivery's id, after `<feed>:`. The likeliest first, without
    duplicates.

    `text`: a key, with or without its change, in any of the forms above.
    """
    found = [text]
    for form in dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text))):
        for parts in _partings(form.split(":")):
            ways = [_stored_parts(part) for part in parts]
            for stored in product(*ways):
                found.append(short_key(":".join(stored)))
                if len(stored) > 1:  # the last one may be a change: the key alone is made short
                    found.append(f"{short_key(':'.join(stored[:-1]))}:{short_key(stored[-1])}")
    return list(dict.fromkeys(found))


def part_pattern(text: str) -> str:
    """A regular expression that finds a part of a key, as people write it, in the keys of the
    ledger.
    """
    forms = dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text)))
    written = ["".join(map(_letter_pattern, form)) for form in forms]
    ways = "|".join([*written, *([re.escape(text)] if "%" in text else [])])
    return f"(?<!%)(?<!%.)(?:{ways})"  # not from within an escape on


def _letter_pattern(letter: str) -> str:
    """The letter as encoded, in either case; a colon also separates parts."""
    ways = dict.fromkeys(_quoted(way) for way in (letter, letter.lower(), letter.upper()))
    bare = (":",) if letter == ":" else ()
    return f"(?:{'|'.join(map(re.escape, (*ways, *bare)))})"


def _shown_part(part: str, *, colon: bool) -> str:
    if part == _STANDS_FOR_NULL:
        return part
    hashed = _HASHED.fullmatch(part)
    text, rest = (hashed[1], hashed[2]) if hashed else (part, "")
    shown = _ESCAPES.sub(lambda found: _decoded(found[0], colon=colon), text)
    shown = _LONE_PERCENT.sub("%", shown)
    if shown.startswith(" "):
        shown = f"%20{shown[1:]}"
    if shown.endswith(" "):
        shown = f"{shown[:-1]}%20"
    return shown + rest


def _decoded(escapes: str, *, colon: bool) -> str:
    """A run of escapes, decoded except where they must stay."""
    raw = unquote_to_bytes(escapes)
    text = raw.decode("utf-8", "surrogateescape")
    return "".join(
        letter if _is_plain(letter, colon=colon) else _quoted_raw(letter) for letter in text
    )


def _is_plain(letter: str, *, colon: bool) -> bool:
    """Whether a letter can be shown as itself. `%` would begin an escape."""
    if letter == "%" or (letter == ":" and not colon):
        return False
    kind = category(letter)
    return letter == " " or (kind not in _UNSEEN and kind != "Zs")


def _quoted_raw(letter: str) -> str:
    return quote(letter.encode("utf-8", "surrogateescape"), safe="")


def _partings(parts: list[str]) -> Iterator[list[str]]:
    """The ways to read colons as between parts of a key or within one; first, all as between parts."""
    colons = len(parts) - 1
    if colons > _MOST_JOINED:
        yield parts
        yield [":".join(parts)]
        yield [":".join(parts[:-1]), parts[-1]]
        return
    for joined in range(2**colons):
        made = [parts[0]]
        for place, part in enumerate(parts[1:]):
            if joined >> place & 1:
                made[-1] += f":{part}"
            else:
                made.append(part)
        yield made


def _stored_parts(part: str) -> list[str]:
    """What a part may be in an id: decoded and encoded again, or with each `%` for itself; a GUID
    in small letters or capitals; bytes without their `0x`."""
    if part == _STANDS_FOR_NULL:
        return [part]
    if hashed := _HASHED.fullmatch(part):
        return [_quoted_bytes(hashed[1]) + hashed[2]]
    found = [_quoted_bytes(part), _quoted(part)]
    if _GUID.fullmatch(part):
        found += [part.lower(), part.upper()]
    if raw := _BYTES.fullmatch(part):
        found.append(raw[1].lower())
    return list(dict.fromkeys(found))


def _quoted_bytes(part: str) -> str:
    return quote(unquote_to_bytes(part.encode("utf-8", "surrogatepass")), safe="")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")
