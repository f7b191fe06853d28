"""The idle connections to one place, and how long that place is known to keep them.

A server closes an idle connection when it likes, and its end crosses with our next request: then
nobody can tell whether that was worked at. So none is used again before it is known that the other
side keeps its connections at all, and none about as late as it was seen to close one. What tells is
left idle and watched: no row depends on it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from app.partner.connection import Connection

IDLE_SECONDS = 15.0
"""How long an idle connection is kept, unless the other side says that it closes earlier, or was
seen to.
"""

AGE_SECONDS = (30.0, 50.0)
"""A connection serves for a random time between these. A name that has moved is followed within a
minute, however steady the traffic, and connections that were opened together are not closed
together."""

PROOF_SECONDS = 0.25
"""A place keeps its connections where one that served was still open after so long, or it says so
(`Keep-Alive`).
"""

WITNESSES = 8
"""Until that is known, so many are left open to see; the others are closed after their answer."""

MARGIN, LEARNT_SECONDS = 0.75, 600.0
"""One that was closed after some time idle: for ten minutes none is used again after three quarters
of that.
"""

BROKEN_OFF, BROKEN_OFF_SECONDS, UNKEPT_SECONDS = 3, 10.0, 60.0
"""Where so many kept connections within so many seconds are closed without an answer, none is kept
for a minute.
"""

JUST_SECONDS = 0.01
"""What has served within so long was read to the end: no need to look at it."""

_EARLY_SECONDS = 1.0
"""How long before the other side closes an idle connection we do."""


class Pooled:
    """A pooled connection, and what the pool knows of it. Times are the loop's."""

    __slots__ = ("connection", "expires_at", "idle_since", "idle_until", "place")

    def __init__(self, connection: Connection, place: Place, now: float) -> None:
        self.connection = connection
        self.place = place
        self.expires_at = now + random.uniform(*AGE_SECONDS)
        """From then on it serves no new request."""
        self.idle_since = self.idle_until = now
        connection.when_left = partial(place.left, self)

    def usable(self, now: float) -> bool:
        """Whether it may serve again: it is not too old, and has received nothing unasked."""
        return now < self.idle_until and now < self.expires_at and self.silent(now)

    def silent(self, now: float) -> bool:
        """Whether it has received nothing unasked."""
        return not self.connection.ending and (
            now - self.idle_since < JUST_SECONDS or self.connection.silent()
        )


class Place:
    """One origin, as one transport knows it."""

    def __init__(self) -> None:
        self._idle: list[Pooled] = []
        """The one that served last comes last."""
        self._keeps = False
        """It is known to keep its connections."""
        self._longest, self._learnt_at = IDLE_SECONDS, -LEARNT_SECONDS
        """How long it does, as far as it was seen to close one, and when that was."""
        self._broken_off: deque[float] = deque(maxlen=BROKEN_OFF)
        """When kept connections were last closed without an answer."""
        self._unkept_until = 0.0

    def __iter__(self) -> Iterator[Pooled]:
        return iter(self._idle)

    def take(self, now: float) -> Pooled | None:
        """One that was used before and can be again; the one used last, so that others may grow
        old.
        """
        if not self._idle or not self._known_to_keep(now):
            return None
        while self._idle:
            pooled = self._idle.pop()
            if pooled.usable(now):
                return pooled
            pooled.connection.abort()
        return None

    def put(self, pooled: Pooled, now: float) -> None:
        """Keep one that has served, where this place keeps them, or to see whether it does; else
        close it.
        """
        said = _said(pooled.connection.keep_alive)
        self._keeps = self._keeps or said is not None
        if now < self._unkept_until or (not self._keeps and len(self._idle) >= WITNESSES):
            return pooled.connection.abort()
        if now - self._learnt_at > LEARNT_SECONDS:
            self._longest = IDLE_SECONDS
        pooled.idle_since = now
        pooled.idle_until = now + min(IDLE_SECONDS if said is None else said, self._longest)
        self._idle.append(pooled)
        return None

    def broken_off(self, now: float) -> None:
        """A kept connection was closed without an answer. Where that happens again and again none
        is kept.
        """
        self._broken_off.append(now)
        if len(self._broken_off) == BROKEN_OFF and now - self._broken_off[0] < BROKEN_OFF_SECONDS:
            self._unkept_until = now + UNKEPT_SECONDS
        self._doubt()

    def close_old(self, now: float) -> None:
        """Close connections that have been idle for too long."""
        kept = [
            one
            for one in self._idle
            if now < min(one.idle_until, one.expires_at) and not one.connection.closed
        ]
        for pooled in set(self._idle) - set(kept):
            pooled.connection.abort()
        self._idle = kept

    def _known_to_keep(self, now: float) -> bool:
        first = self._idle[0]
        if not self._keeps and now - first.idle_since >= PROOF_SECONDS:
            self._keeps = first.connection.silent()
        return self._keeps

    def left(self, pooled: Pooled, now: float) -> None:
        """The other side closed a connection; one that was idle tells how long it keeps them."""
        if pooled not in self._idle:
            return
        self._idle.remove(pooled)
        idle = now - pooled.idle_since
        if idle < PROOF_SECONDS:
            self._doubt()
        else:
            self._longest, self._learnt_at = min(self._longest, MARGIN * idle), now

    def _doubt(self) -> None:
        """It is not known any more that connections are kept: that is to be seen anew, by others."""
        self._keeps = False
        idle, self._idle = self._idle, []
        for pooled in idle:
            pooled.connection.abort()


def _said(keep_alive: str | None) -> float | None:
    """How long it is kept by `Keep-Alive: timeout=5, max=100`, which many servers send; `None`: it
    does not say.
    """
    for part in keep_alive.split(",") if keep_alive else ():
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout":
            with suppress(ValueError):
                return max(0.0, min(IDLE_SECONDS, float(value) - _EARLY_SECONDS))
    return None
