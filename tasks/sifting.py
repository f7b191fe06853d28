"""Clearing the `deliver` queue of what is no hint any more.

A hint for a batch that is gone costs a task and two questions to the ledger, and one for a batch
that is there is no better for being there twice. So where far more of them wait than are ever sent,
the whole queue is looked through: its messages are taken out a thousand at a time, the ledger is
asked once for each thousand which of their batches are there, and those go back, once each. Rows
that come meanwhile have their hints in the queue's own key, and wait for none of this. What dies
with the process between taking and putting back is sent again by the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from app.broker.queue import DELIVER
from app.feeds.feed import Feed
from tasks.messages import MESSAGE_LIMIT, Dropped, drops, read

log = structlog.get_logger()

ASKED_AT_ONCE = 1000
SIFTING = "rowrelay:sifting"
"""The key that holds the queue while it is looked through."""
_KEPT_SECONDS = 3600

_SET_APART = """
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return 1
"""
_TAKE = """
local taken, found = 0, {}
for _ = 1, tonumber(ARGV[1]) do
  local message = redis.call('RPOP', KEYS[1])
  if not message then break end
  taken = taken + 1
  if #message <= tonumber(ARGV[2]) then found[#found + 1] = message end
end
return {taken, found}
"""

Existing = Callable[[Iterable[str]], set[str]]
"""Which of these batches are in the ledger."""


@dataclass(slots=True)
class Sifted:
    """What came of it, in messages."""

    taken: int = 0
    kept: int = 0


def sift(redis: Any, existing: Existing, feeds: Mapping[str, Feed], lease: timedelta) -> Sifted:
    """Look the whole queue through. `redis`: a client; `feeds` and `lease`: see
    `tasks.messages.read`. Blocks.

    Raises the client's errors and the ledger's.
    """
    sifted = Sifted()
    redis.eval(_SET_APART, 2, DELIVER, SIFTING, _KEPT_SECONDS)
    while True:
        taken, raw = redis.eval(_TAKE, 1, SIFTING, ASKED_AT_ONCE, MESSAGE_LIMIT)
        if not taken:
            break
        drops.counts["too_long"] += taken - len(raw)
        hints = _hints(raw, feeds, lease)
        there = existing(hints)
        kept = [message for batch, message in hints.items() if batch in there]
        if kept:
            redis.rpush(DELIVER, *reversed(kept))
        drops.counts["gone"] += len(hints) - len(kept)
        sifted.taken += taken
        sifted.kept += len(kept)
    log.warning("queue_sifted", queue=DELIVER, messages=sifted.taken, kept=sifted.kept)
    return sifted


def _hints(raw: Iterable[bytes], feeds: Mapping[str, Feed], lease: timedelta) -> dict[str, bytes]:
    """Batch → its message, the oldest first; of several for one batch the last. What is no hint is
    dropped.
    """
    found: dict[str, bytes] = {}
    for message in raw:
        try:
            hint = read(message, feeds, lease)
            if hint.task == "deliver":
                found[hint.kwargs["batch"]] = message
        except Dropped as why:
            drops.note(message, DELIVER, why)
    return found
