"""A feed's configuration as it is in effect: every field with its value, secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, SecretStr

from app.core.url import Url
from app.feeds.feed import Feed, Rate
from app.partner.headers import SECRET_NAME
from app.partner.masking import MASK, feed_secrets, masked

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_NOT_SECRET = frozenset({"key", "cursor.key", "type"})
"""Names that look like those of secrets, and hold columns."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a feed."""

    name: str
    """As in `feeds.toml`, with the tables that it lies in: `partner.retry.backoff`."""
    value: str
    given: bool
    """It is written there; else it has its default."""


def configuration_of(feed: Feed) -> list[Field]:
    """Every field, in the order of the schema. No value has a secret in it."""
    secrets = feed_secrets(feed)
    return [
        Field(name, masked(text, secrets), given)
        for name, text, given in _fields("", feed, given=True)
        if name not in ("name", "secrets")
    ]


def _fields(prefix: str, model: BaseModel, *, given: bool) -> Iterator[tuple[str, str, bool]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        yield from _of(f"{prefix}{name}", value, given=given and name in model.model_fields_set)


def _of(name: str, value: Any, *, given: bool) -> Iterator[tuple[str, str, bool]]:
    if isinstance(value, BaseModel) and not isinstance(value, Rate):
        yield from _fields(f"{name}.", value, given=given)
    elif isinstance(value, Mapping):
        for part, one in value.items():
            yield from _of(f"{name}.{part}", one, given=given)
    elif isinstance(value, tuple | list) and any(isinstance(one, BaseModel) for one in value):
        for number, one in enumerate(value, 1):
            yield from _of(f"{name}.{number}", one, given=given)
    else:
        yield name, _text(name, value), given


def _text(name: str, value: Any) -> str:
    """A value as an operator writes it."""
    if isinstance(value, tuple | list):
        return ", ".join(_text(name, one) for one in value)
    named_secret = name not in _NOT_SECRET and SECRET_NAME.search(name.rpartition(".")[2])
    if isinstance(value, SecretStr) or (isinstance(value, str) and named_secret):
        return MASK
    write = next((write for kind, write in _WRITTEN if isinstance(value, kind)), str)
    return write(value)


def _duration(length: timedelta) -> str:
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    unit, size = next((unit, size) for unit, size in _UNITS if not seconds % size or size == 1)
    return f"{seconds / size:g}{unit}"


_WRITTEN: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (type(None), lambda _: ""),
    (bool, lambda value: str(value).lower()),
    (Url, lambda url: f"{url.scheme}://{url.authority}{url.target}"),
    (timedelta, _duration),
    (Rate, lambda rate: f"{rate.count}/{rate.per_seconds} s"),
)
"""Type → how a value of it is written, where that is not `str`."""
