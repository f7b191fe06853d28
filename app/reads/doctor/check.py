"""One check of `doctor`: made, timed, and told in one line."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from app.broker.depths import Broker
from app.core.errors import ConfigError, RowrelayError
from app.core.shown import one_line
from app.core.unreached import why_unreached
from app.ledger import Ledger
from app.source.findings import Level
from app.source.reader import Source


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. A warning does not make `doctor` fail."""

    name: str
    ok: bool
    level: Level
    detail: str
    latency_ms: float | None
    """`None` where the answer came with another check's."""


def found(name: str, level: Level, detail: str) -> Check:
    """What was found besides, or at once."""
    return Check(name, level is not Level.FAILED, level, detail, None)


async def checked(name: str, check: Callable[[], Awaitable[str]]) -> Check:
    """Make a check, which says what it found, or raises what is wrong."""
    started = time.monotonic()
    try:
        detail, level = await check(), Level.OK
    except (RowrelayError, OSError, TimeoutError) as error:
        detail, level = _said(error), Level.FAILED
    return Check(name, level is Level.OK, level, detail, (time.monotonic() - started) * 1000)


def _said(error: Exception) -> str:
    """The error on one line; of a `ConfigError` its problems alone."""
    if isinstance(error, ConfigError):
        return one_line("; ".join(map(str, error.problems)))
    return why_unreached(error)


class Servers(Protocol):
    """The servers of an installation. Each is opened when it is first asked for, which may raise: a
    check says so.
    """

    @property
    def ledger(self) -> Ledger: ...

    @property
    def source(self) -> Source: ...

    @property
    def broker(self) -> Broker: ...
