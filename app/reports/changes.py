"""What differs between two compilations of the same report, made by one version of Rowrelay or by
two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from app.ledger.reports import CHANGES_KEPT
from app.reports.record import Document, canonical

_TIMELINES = ("slots", "spans", "slowest", "most_failing", "feeds")
"""What changes with the figures; only named where nothing else differs."""
KEYED_BY_DATA = ("statuses", "states")
"""Fields whose names inside are data, not fields: one that is new there is another figure."""


class Difference(Enum):
    """How two compilations differ."""

    NONE = "none"
    FIELDS = "fields"
    """In their version alone: one has fields that the other lacks, and the figures in both are the
    same.
    """
    FIGURES = "figures"


def compare(was: Mapping[str, Any], now: Mapping[str, Any]) -> Difference:
    """How the two documents differ. Fields that only one of two versions knows are not compared."""
    if canonical(was) == canonical(now):
        return Difference.NONE
    shared_then, shared_now = _in_common(was, now)
    return (
        Difference.FIELDS if canonical(shared_then) == canonical(shared_now) else Difference.FIGURES
    )


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Document]:
    """Each figure that differs, as {field, was, now}, at most as many as the ledger keeps; none for
    equal documents.
    """
    was, now = _in_common(was, now)
    found = list(_differing("", _headline(was), _headline(now)))
    found = found or [
        _changed(name, "…", "…") for name in _TIMELINES if was.get(name) != now.get(name)
    ]
    return found[:CHANGES_KEPT]


def _in_common(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Document, Document]:
    """Both documents, of two versions without what one of them lacks."""
    if was.get("version", 0) == now.get("version", 0):
        return dict(was), dict(now)
    then, later = (
        {name: document[name] for name in document if name != "version"} for document in (was, now)
    )
    return _within(then, later), _within(later, then)


def _within(one: Any, other: Any, name: str = "") -> Any:
    """One document without the fields that the other lacks."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and name not in KEYED_BY_DATA:
        return {
            field: _within(value, other[field], field)
            for field, value in one.items()
            if field in other
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [_within(item, counterpart) for item, counterpart in zip(one, other, strict=True)]
    return one


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
