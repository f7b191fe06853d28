"""File descriptors: how many a worker needs at once, and what to do if it may not have that many.

Most of them are connections to partners: one for each request in flight. A process starts with a
soft limit, often 1024, that it may raise to the hard one by itself; where even that is too little,
it sends less at once.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.configuration.loaded import Loaded
from app.feeds.feed import Feed
from app.monitoring.heartbeat import Activity
from config import Config

log = structlog.get_logger()

OWN = 28
"""What Python, two event loops, Celery's consumer and the log have open, whatever happens: 24 where
it was counted.
"""
LEDGER_OWN, LEDGER_POOL = 8, 100
"""Connections to the ledger: one a task, those that watch its servers, and no more than the
driver's pool holds (PyMongo's `maxPoolSize`). Counted under load with 16 tasks: 14."""
REDIS_OWN = 16
"""Connections to Redis: Celery's pools, the subscription to the throttle's channel and the
heartbeat's check; and one a task where endpoints fail. Counted: 16.
"""
SOURCE, FILES = 12, 8
"""Connections to the source, as its pool bounds them (`app/source/engine.py`); archives, reports,
name servers.
"""


@dataclass(frozen=True, slots=True)
class Need:
    """How many one worker process may have open at once, by purpose."""

    partners: int
    """One connection per request that its feeds may have in flight if it is the only worker."""
    ledger: int
    broker: int
    rest: int
    """The source, files, and the process's own."""
    usual: int
    """Typically open, partners' connections aside."""

    @property
    def total(self) -> int:
        """The maximum of all together."""
        return self.partners + self.ledger + self.broker + self.rest

    def __str__(self) -> str:
        return (
            f"{self.total}: {self.partners} to partners (the feeds' concurrency), up to {self.ledger} to the ledger, "
            f"{self.broker} to Redis, {self.rest} for the source, files and itself"
        )


@dataclass(frozen=True, slots=True)
class Limit:
    """How many this process may open."""

    soft: int
    """Now."""
    hard: int
    """The most to which it may raise that itself."""


def need_of(feeds: Iterable[Feed], tasks: int) -> Need:
    """What a worker needs for these feeds and this many concurrent tasks."""
    partners = sum(feed.partner.concurrency for feed in feeds)
    ledger = (
        LEDGER_POOL + LEDGER_OWN
    )  # batches are under way on the event loop, however few tasks there are
    usual = OWN + REDIS_OWN + LEDGER_OWN + min(tasks, LEDGER_POOL) // 2
    return Need(partners, ledger, tasks + REDIS_OWN, SOURCE + FILES + OWN, usual)


def limit() -> Limit:
    """The current limit; unlimited is a very large number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limit(_finite(soft), _finite(hard))


def raise_limit(need: Need) -> Limit:
    """Raise the soft limit of this process and its children to what it needs, up to the hard limit.

    A limit that is high enough stays as it is. Returns what it then is. Never raises.
    """
    found = limit()
    wanted = min(need.total, found.hard)
    if wanted > found.soft:
        with suppress(OSError, ValueError):  # some systems have a lower bound that they do not tell
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            )
    return limit()


def part_that_fits(need: Need, soft: int) -> float:
    """The part of its connections to partners that a process has descriptors for: 1 where they are
    enough, above 0.
    """
    if not need.partners:
        return 1.0
    return min(1.0, max(soft - need.usual, 1) / need.partners)


def fit(config: Config | Loaded, activity: Activity) -> None:
    """Raise this process's limit to what its feeds need; report a shortage in the log and in its
    heartbeat.
    """
    need = need_of(config.feeds.values(), config.settings.worker_concurrency)
    short = shortage(need, raise_limit(need).soft)
    if short and short != activity.short_of:
        log.warning("file_descriptors_short", found=short)
    activity.short_of = short


def shortage(need: Need, allowed: int) -> str | None:
    """What is wrong with a limit, its consequence, and what to do; `None` if it is high enough."""
    if allowed >= need.total:
        return None
    part = part_that_fits(need, allowed)
    follows = "It runs short where all are needed at once, and rows wait"
    if part < 1:
        follows = f"So it sends about {max(1, int(need.partners * part))} requests at once, not {need.partners}"
    return (
        f"it may have {allowed} file descriptors and needs {need}. {follows}: raise the hard limit (ulimit -Hn, "
        f"LimitNOFILE=, --ulimit nofile) to {need.total}, or lower the feeds' partner.concurrency"
    )


def _finite(bound: int) -> int:
    return 2**31 - 1 if bound == resource.RLIM_INFINITY else bound
