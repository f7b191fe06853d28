"""Tells from other rows' answers whether a refusal is about one row or about all.

**403.** A partner's firewall may refuse one row of many, and a partner that withdrew our
credentials refuses all. So a row that is refused while others are accepted is tried again, and is a
dead letter where others that were sent after it were accepted; where nothing was accepted lately,
the feed is paused.

**A handful.** `partner.stop_after` refusals one after the other, with nothing accepted in between,
pause the feed. They are counted in the ledger for all workers together, and only so many become
dead letters: those that were in flight with them wait, and are sent again once the feed is resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app.core.attempts import Outcome, Result, Verdict
from app.feeds.feed import Feed
from app.ledger import Ledger

LATELY = timedelta(hours=1)
"""How long an accepted row vouches for our credentials."""


class Refusals:
    """Reconsiders groups of results that contain refusals; the others are only scanned."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def reconsider(
        self, feed: Feed, group: Sequence[Result], now: datetime, *, counting: bool = True
    ) -> Sequence[Result]:
        """The group, in order, with verdicts revised in the light of other rows' answers. Raises
        the ledger's errors.

        Without `counting` nothing is written: a preview of what would follow.
        """
        if not any(map(_refused, group)):
            return group
        accepted = [
            place
            for place, result in enumerate(group)
            if result.verdict.outcome is Outcome.DELIVERED
        ]
        tail = accepted[-1] + 1 if accepted else 0
        count = sum(map(_refused, group[tail:]))
        before = 0
        if count and feed.partner.stop_after:
            before = await self._before(feed, fresh=bool(accepted))
            if counting:
                before = await self._ledger.pauses.count_refusals(
                    feed.name, count, now, begin=not before
                )
        judged = await self._forbidden(feed, group, now)
        return _stopped(feed, judged, tail, before, now) if feed.partner.stop_after else judged

    async def _before(self, feed: Feed, *, fresh: bool) -> int:
        """Refusals in a row as counted by all workers. `fresh`: something was accepted since."""
        known, last = await self._ledger.pauses.refusals(feed.name)
        if fresh or last is None or await self._ledger.deliveries.accepted_since(feed.name, last):
            return 0
        return known

    async def _forbidden(self, feed: Feed, group: Sequence[Result], now: datetime) -> list[Result]:
        if not any(map(_denied, group)):
            return list(group)
        starts = [
            result.answer.at for result in group if result.verdict.outcome is Outcome.DELIVERED
        ]
        lately = bool(starts) or await self._ledger.deliveries.accepted_since(
            feed.name, now - LATELY
        )
        return [
            await self._of_row(feed, result, max(starts, default=None), lately)
            if _denied(result)
            else result
            for result in group
        ]

    async def _of_row(
        self, feed: Feed, result: Result, accepted: datetime | None, lately: bool
    ) -> Result:
        earlier = result.delivery.refused_at
        if earlier is not None:
            since = accepted is not None and accepted > earlier
            # One that was recorded so late was sent after the refusal.
            if since or await self._ledger.deliveries.accepted_since(
                feed.name, earlier + feed.partner.timeout
            ):
                reason = f"{result.verdict.reason}: the partner accepts other rows, and refused this one again"
                return replace(result, verdict=Verdict(Outcome.DEAD, reason))
        if lately or earlier is not None:
            return replace(result, verdict=replace(result.verdict, pause_reason=None))
        return result


def _denied(result: Result) -> bool:
    return result.answer.status == 403 and result.verdict.pause_reason is not None


def _refused(result: Result) -> bool:
    """A 403, or a row given up because of its answer, rather than because the partner is unwell or
    away.
    """
    if _denied(result):
        return True
    if result.verdict.outcome is not Outcome.DEAD or result.verdict.pause_reason:
        return False
    status = result.answer.status
    spent = result.verdict.reason.startswith(("attempts spent", "age spent"))
    return not spent or (status is not None and 200 <= status <= 299)


def _stopped(
    feed: Feed, group: Sequence[Result], tail: int, before: int, now: datetime
) -> Sequence[Result]:
    """The group, with the feed paused where too many were refused in a row, and no dead letters
    beyond that number.
    """
    judged, count = list(group), before
    for place in range(tail, len(judged)):
        result = judged[place]
        if not (_refused(result) or result.answer.status == 403):
            continue
        count += 1
        verdict = result.verdict
        if verdict.outcome is Outcome.DEAD and count > feed.partner.stop_after:
            verdict = Verdict(
                Outcome.RETRY, verdict.reason, next_attempt_at=now + feed.retry.backoff
            )
        if count >= feed.partner.stop_after and not verdict.pause_reason:
            pause = f"{verdict.reason}: {count} refusals in a row, and nothing accepted in between (partner.stop_after)"
            verdict = replace(verdict, pause_reason=pause)
        judged[place] = replace(result, verdict=verdict)
    return judged
