"""Secrets among texts: which parts of a URL are one, and the order in which they are masked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from app.core.url import span_of_place

_SEPARATORS = re.compile(r"[/?&=@:;,]")
_MIXED_SECRET, _LONG_SECRET = 8, 20
"""Characters: what is a secret by its looks has letters and digits, or is longer than words are."""


def longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    """Each once, and none that is empty."""
    return tuple(sorted({*secrets} - {""}, key=len, reverse=True))


def secrets_of_url(url: str, given: Iterable[tuple[int, int]]) -> Iterator[str]:
    """The secrets in a URL of which some parts are secret (`given`: where each begins and ends):
    each such part, but for scheme, host and port, which say where a request goes and are shown.

    Of a part that is more than one value, such as a whole path or query, also each that looks like
    a secret: a partner may quote it alone.
    """
    place = span_of_place(url)
    secret_zones = (
        [(0, len(url))]
        if place is None
        else [(url.index("://") + 3, place[0]), (place[1], len(url))]
    )
    for first, last in given:
        for begin, end in secret_zones:
            part = url[max(first, begin) : min(last, end)].removesuffix("@")
            yield from (part, *part.split("?"))
            yield from filter(_telling, _SEPARATORS.split(part))


def _telling(text: str) -> bool:
    """Whether a text is likely a secret by itself, and no word that stands in many a text."""
    mixed = re.search(r"\d", text) and re.search(r"[A-Za-z]", text)
    return len(text) >= _LONG_SECRET or (len(text) >= _MIXED_SECRET and bool(mixed))
