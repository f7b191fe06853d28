"""What of a page's part differs from what was sent before: its cells, each by its place, so that a page that
is kept up to date is sent little.

Cells are the elements `p`, `th` and `td`, none within another. What is around them has to be the same,
else the whole part is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CELL = re.compile(r"<(p|th|td)\b.*?</\1>", re.DOTALL)
_PLACE = "\0"

Changed = Sequence[tuple[int, str]]
"""Cells by their place in the document, counted from 0."""


def changed_cells(before: str, after: str) -> Changed | None:
    """The cells that differ; `None`: what is around them does, too."""
    if _CELL.sub(_PLACE, before) != _CELL.sub(_PLACE, after):
        return None
    pairs = zip(_cells(before), _cells(after), strict=True)
    return [(place, now) for place, (was, now) in enumerate(pairs) if was != now]


def _cells(html: str) -> list[str]:
    return [found[0] for found in _CELL.finditer(html)]
