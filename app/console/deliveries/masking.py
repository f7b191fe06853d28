"""What a viewer sees of texts that may hold what the row holds.

A support colleague has to read what the partner answered: its status, the error, the text. That text
may repeat what is in the row. So for those who may not see a payload, values of the row are masked in
it, and what looks like a mail address or a long number, such as of a telephone or a card; the
delivery's key stays. The feed's secrets are masked for everybody, before an answer is kept at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import orjson

from app.console.masked import HIDDEN
from app.core.attempts import RESPONSE_LIMIT
from app.core.keys import shown_key
from app.core.masking import longest_first
from app.partner.masking import masked, variants

_SHORTEST = 3
"""Characters of a value that is masked in a text; a shorter one stands in many a word."""
_MOST = 500
"""Values of a row that are looked for."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)("|\\?$)', re.DOTALL)
"""What an error quotes of an answer, as JSON."""
_PERSONAL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w.-])\+?\d(?:[ .-]?\d){8,}(?![\w.-])")


def masks_row(payload: str | None, key: str) -> Callable[[str], str]:
    """A function that masks the row's values in a text. `key`: as the ledger has it."""
    spared = _spared(key)
    forms = longest_first(
        form
        for value in _values(payload)
        if len(value) >= _SHORTEST and value.casefold() not in spared
        for form in variants(value)
    )
    known: dict[str, str] = {}

    def mask(text: str) -> str:
        if text not in known:
            known[text] = _masked(text, forms, spared)
        return known[text]

    return mask


def masks_personal(key: str) -> Callable[[str], str]:
    """A function that masks what looks personal in a text, and what it quotes, where the row is not at
    hand."""
    mask, spared = masks_row(None, key), _spared(key)

    def quoted(found: re.Match[str]) -> str:
        return found[0] if found[1].casefold() in spared else f'"{HIDDEN}{found[2]}'

    return lambda text: mask(_QUOTED.sub(quoted, text))


def _spared(key: str) -> frozenset[str]:
    shown = shown_key(key)
    return frozenset(part.casefold() for part in (shown, *shown.split(":")))


def _masked(text: str, forms: Sequence[str], spared: Container[str]) -> str:
    folded = text.casefold()
    there = [form for form in forms if form.casefold() in folded]
    if there:
        pattern = "|".join(map(re.escape, there))
        text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    if len(text.encode("utf-8", "replace")) >= RESPONSE_LIMIT - 4:  # it was cut off
        text = masked(text, forms, cut=True)
    return _PERSONAL.sub(lambda found: found[0] if found[0].casefold() in spared else HIDDEN, text)


def _values(payload: str | None) -> list[str]:
    try:
        row = orjson.loads(payload) if payload else None
    except orjson.JSONDecodeError:
        return []
    return [text for text, _ in zip(_texts(row), range(_MOST), strict=False)]


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for one in part.values():
            yield from _texts(one)
    elif isinstance(part, list):
        for one in part:
            yield from _texts(one)
    elif part is not None and not isinstance(part, bool):
        yield str(part)
