"""Recording results in groups as they come: attempts first, then deliveries, then counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from app.core.attempts import Outcome, Result, Ruling
from app.core.backoff import doubled
from app.core.clock import Clock
from app.core.errors import RowrelayError
from app.delivery.leases import by_status
from app.delivery.pauses import Pauses
from app.delivery.refusals import Refusals
from app.delivery.work import DeliverySettings, Work
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.partner.throttle.throttle import EndpointThrottle

log = structlog.get_logger()

RECORD_PATIENCE = timedelta(minutes=5)
"""How long a worker keeps results that the ledger does not take, before it leaves them to the next
lease.
"""

_FIRST_WAIT, _LONGEST_WAIT = timedelta(milliseconds=100), timedelta(seconds=5)


class Recording:
    """Writes the results of one worker process."""

    def __init__(
        self,
        ledger: Ledger,
        settings: DeliverySettings,
        pauses: Pauses,
        now: Clock,
        seen: Callable[[Result], None] | None = None,
    ) -> None:
        """`seen`: told of each result that was recorded."""
        self._ledger = ledger
        self._settings = settings
        self._pauses = pauses
        self._refusals = Refusals(ledger)
        self._now = now
        self._seen = seen

    async def write_in_groups(self, feed: Feed, throttle: EndpointThrottle, work: Work) -> None:
        """Write results in groups of up to `group_size`, none kept longer than `group_wait`, until
        there are no more. Raises the ledger's errors, for a group that it did not take for
        `RECORD_PATIENCE`.
        """
        ended = False
        while not ended:
            group, ended = await work.results.group(
                self._settings.group_size, self._settings.group_wait
            )
            if group:
                await _report(throttle, group)
                await self._record_patiently(feed, work, group)
                await self.count_openings(throttle)

    async def count_openings(self, throttle: EndpointThrottle) -> None:
        """Count that we opened the endpoint's breaker. Where the ledger is away, the count falls
        short.
        """
        with suppress(RowrelayError):
            for at, open_for in throttle.openings():
                await self._ledger.stats.add_opening(throttle.feed.name, at, open_for)

    async def _record_patiently(self, feed: Feed, work: Work, group: Sequence[Result]) -> None:
        """Record a group, again and again while the ledger is away: a success not recorded is a
        duplicate later.

        Where it cannot be recorded nothing more of the batch is sent.
        """
        give_up = self._now() + RECORD_PATIENCE
        tries, reconsidered = 0, False
        while True:
            try:
                if not reconsidered:
                    group, reconsidered = (
                        await self._refusals.reconsider(feed, group, self._now()),
                        True,
                    )
                await self._pause_if_asked(feed, work, group)
                return await self._record(work, group)
            except RowrelayError as error:
                if not error.retryable or self._now() >= give_up:
                    work.stopped = str(error)
                    raise
                log.warning(
                    "record_waits", batch=work.batch.id, results=len(group), error=str(error)
                )
            await asyncio.sleep(doubled(_FIRST_WAIT, tries, _LONGEST_WAIT).total_seconds())
            tries += 1

    async def _record(self, work: Work, group: Sequence[Result]) -> None:
        """Attempts first, then the deliveries, then the counts: see `deliver.py` on dying in
        between.
        """
        now = self._now()
        made = [result for result in group if result.answer.made]
        dead_unsent = [r for r in group if not r.answer.made and r.verdict.outcome is Outcome.DEAD]
        await self._ledger.attempts.record(work.batch, made)
        delivered = [result for result in group if result.verdict.outcome is Outcome.DELIVERED]
        failed = [result for result in group if result.verdict.outcome is not Outcome.DELIVERED]
        if delivered:
            statuses = ((result.delivery.id, result.answer.status or 0) for result in delivered)
            await self._ledger.deliveries.succeed(work.batch, by_status(statuses), now)
        await self._ledger.deliveries.fail(work.batch, failed, now)
        if made or dead_unsent:
            await self._ledger.stats.add_results(work.batch.feed, [*made, *dead_unsent], now)
        work.recorded += len(group)
        for result in group:
            work.outcomes[result.verdict.outcome] += 1
        self._tell(group)

    def _tell(self, group: Sequence[Result]) -> None:
        """Tell whoever is to see each result: the log, where it is that detailed."""
        tell = self._seen
        if tell is None and log.is_enabled_for(logging.DEBUG):
            tell = _log_attempt
        if tell is not None:
            for result in group:
                tell(result)

    async def _pause_if_asked(self, feed: Feed, work: Work, group: Sequence[Result]) -> None:
        result = next((result for result in group if result.verdict.pause_reason), None)
        if result:
            reason = f"{result.verdict.pause_reason} (delivery {result.delivery.id})"
            work.stopped = reason
            await self._pauses.add(feed, reason)
            log.error("feed_paused", feed=feed.name, reason=reason)


async def _report(throttle: EndpointThrottle, group: Sequence[Result]) -> None:
    """Tell the endpoint's throttle, which never keeps results from being recorded."""
    try:
        answers = [result.answer for result in group if result.answer.ruling is not Ruling.OURS]
        if answers:
            await throttle.report(answers)
    except Exception as error:
        log.exception("throttle_failed", kind=type(error).__name__)


def _log_attempt(result: Result) -> None:
    log.debug(
        "attempted",
        delivery=result.delivery.id,
        attempt=result.delivery.attempts + 1,
        outcome=result.verdict.outcome.value,
        status=result.answer.status,
        duration_ms=result.answer.duration_ms,
    )
