"""What differs between two compilations of the same report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.ledger.reports import CHANGES_KEPT
from app.reports.record import Document

_TIMELINES = ("slots", "spans", "slowest", "most_failing", "feeds")
"""What changes with the figures; only named where nothing else differs."""


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Document]:
    """Each figure that differs, as {field, was, now}, at most as many as the ledger keeps; none for equal documents."""
    found = list(_differing("", _headline(was), _headline(now)))
    found = found or [_changed(name, "…", "…") for name in _TIMELINES if was.get(name) != now.get(name)]
    return found[:CHANGES_KEPT]


def _headline(document: Mapping[str, Any]) -> Document:
    return {name: value for name, value in document.items() if name not in _TIMELINES}


def _differing(path: str, was: Any, now: Any) -> Iterator[Document]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in sorted(was.keys() | now.keys()):
            yield from _differing(f"{path}.{name}".lstrip("."), was.get(name), now.get(name))
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for place, pair in enumerate(zip(was, now, strict=True)):
            yield from _differing(f"{path}.{place}", *pair)
    elif was != now:
        yield _changed(path, was, now)


def _changed(field: str, was: Any, now: Any) -> Document:
    return {"field": field, "was": was, "now": now}
