"""What differs from one database product to the next, as one record a product. A new product is an added file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine

Decoder: TypeAlias = Callable[[Any], Any]
"""Turns a driver's value into what the column's declared type means. Must not raise."""


def _no_arguments(connect_timeout_seconds: float) -> Mapping[str, object]:  # noqa: ARG001 - the field's signature
    return {}


def _unchanged(url: URL) -> URL:
    return url


def _ask_the_table(error: BaseException) -> bool | None:  # noqa: ARG001 - the field's signature
    return None


def _no_decoder(column_type: TypeEngine[Any]) -> Decoder | None:  # noqa: ARG001 - the field's signature
    return None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database product is connected to and understood. The defaults suit a driver with full types."""

    driver: str
    """The async driver that a plain URL is given."""
    connect_args: Callable[[float], Mapping[str, object]] = _no_arguments
    """The driver's own keywords, from the connect timeout in seconds."""
    prepare_url: Callable[[URL], URL] = _unchanged
    on_connect: Callable[[Any], None] | None = None
    """Called with each new driver connection (as SQLAlchemy adapts it) before its first use."""
    refuses: Callable[[BaseException], bool | None] = _ask_the_table
    """Of a driver's error: `True` permanent, `False` worth a retry, `None` where its class decides."""
    decoder: Callable[[TypeEngine[Any]], Decoder | None] = _no_decoder
    """The decoder for a column of that declared type; `None` where the driver's value is right already."""
