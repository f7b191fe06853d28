"""As `questions`, of what is no delivery: batches, retention, periodic jobs, and what there is one
of a feed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from app.core.attempts import Outcome
from app.core.certificates import Certificate, DiscrepancyKind
from app.core.cursors import Cursor, Notice, Origin
from app.core.errors import LeaseLost
from app.core.events import Event, Found
from app.core.period import Kind, Period
from app.core.rows import Page
from app.core.states import State
from app.ledger import Ledger
from app.ledger.archives import ArchivePart, Contents
from app.ledger.heartbeats import Heartbeat, Role
from app.ledger.notifications import Message
from app.ledger.purges import Claim
from app.ledger.reports import ReportKey, Revised
from app.ledger.scans import Scan
from app.ledger.settled import CATEGORIES, Category, TimeRange, settled
from app.ledger.stamp import Stamp
from app.ledger.stats import Gauge
from app.ledger.ticks import StepDone, Tick, TickState
from tests.support.busy_ledger import (
    BATCH,
    BIG,
    COUNTS,
    DAY,
    ONE_DAY,
    PAUSED,
    RESTORED,
    batch_name,
    name_of,
    open_ones,
)
from tests.support.ledger import FEED, LEASE, NOW
from tests.support.questions import LATER, Ask, held, ids

ALL_DAY = TimeRange(DAY, DAY + timedelta(days=1))
DELIVERED = next(category for category in CATEGORIES if category.state is State.DELIVERED)


async def _tick(ledger: Ledger, change: Callable[[Tick], Awaitable[object]]) -> None:
    """Claim the oldest open tick of a job, change it, and give it back."""
    tick = (await ledger.ticks.open("purge"))[0]
    now = tick.lease.until if tick.lease else LATER
    claimed = await ledger.ticks.claim(tick, "w1", now, LEASE)
    assert claimed
    await change(claimed)


async def _count(ledger: Ledger, category: Category) -> None:
    await ledger.retention.count(FEED, category, ALL_DAY)


async def _read(ledger: Ledger, category: Category) -> None:
    reading = await ledger.retention.read(FEED, category, ALL_DAY)
    await reading.next(10)
    await reading.close()


async def _drop(ledger: Ledger) -> None:
    found = [await ledger.deliveries.get(one) for one in ids(State.DELIVERED, *range(2000, 2100))]
    await ledger.retention.drop(
        [one for document in found if document and (one := settled(document))]
    )


async def _put_back(ledger: Ledger) -> None:
    document = await ledger.deliveries.get(name_of(FEED, State.DELIVERED, 100))
    assert document
    (record,) = await ledger.retention.records([document])
    await ledger.retention.put_back([record], NOW, "a file")


async def _remember(ledger: Ledger) -> None:
    """A day has changed, and is counted again."""
    await ledger.counts.mark(FEED, [DAY], NOW)
    await ledger.counts.remember(FEED, NOW)


async def _about_restored(ledger: Ledger) -> None:
    """What purge has deleted is left out, but for what is back."""
    claim = await ledger.purges.claim(PAUSED, "me", LATER, LEASE)
    assert claim
    await ledger.purges.note_purged(claim, DAY + timedelta(days=1))
    await ledger.counts.about(PAUSED, NOW)


async def _certificates_page(ledger: Ledger, *, before: datetime | None) -> None:
    await ledger.certificates.page(FEED, before, 20)


def of_batches() -> dict[str, list[Ask]]:
    """What is owed now."""
    named = [batch_name(FEED, number) for number in range(0, 100, BATCH)]
    own = COUNTS[FEED][State.QUEUED] // BATCH
    return {
        "batches.claim": [
            Ask(lambda at: at.batches.claim(batch_name(FEED, 100), FEED, "w1", NOW, LEASE))
        ],
        "batches.claim_next": [Ask(lambda at: at.batches.claim_next(FEED, "w1", LATER, LEASE))],
        "batches.due": [
            Ask(lambda at: at.batches.due(NOW, 20)),
            Ask(lambda at: at.batches.due(NOW, 20, [PAUSED])),
            Ask(lambda at: at.batches.due(NOW, 20, [PAUSED, BIG, FEED])),
            Ask(lambda at: at.batches.due(NOW, 20, [PAUSED], among=[FEED])),
        ],
        "batches.drop_due": [Ask(lambda at: at.batches.drop_due("nobody", LATER))],
        "batches.feeds": [Ask(lambda at: at.batches.feeds())],
        "batches.existing": [Ask(lambda at: at.batches.existing(named))],
        "batches.held": [Ask(lambda at: at.batches.held(named))],
        "batches.hasten": [Ask(lambda at: at.batches.hasten(NOW))],
        "batches.leased": [Ask(lambda at: at.batches.leased(FEED, NOW), within=own)],
        "batches.note_changed": [Ask(lambda at: at.batches.note_changed(named))],
        "batches.overdue": [
            Ask(lambda at: at.batches.overdue(NOW), within=open_ones(State.QUEUED) // BATCH),
            Ask(lambda at: at.batches.overdue(NOW, [FEED]), within=own),
        ],
        "batches.owed": [Ask(lambda at: at.batches.owed(FEED), within=own)],
        "batches.park": [Ask(lambda at: at.batches.park(batch_name(FEED, 110), FEED, LATER, NOW))],
        "batches.release": [Ask(lambda at: _ours(at.batches.release(held(130), LATER, LATER)))],
        "batches.renew": [Ask(lambda at: _ours(at.batches.renew(held(130), LATER)))],
        "batches.settle": [Ask(lambda at: at.batches.settle(held(130)))],
        "batches.show": [Ask(lambda at: at.batches.show(named, LATER))],
    }


async def _ours(change: Awaitable[None]) -> None:
    """The question is asked though the lease is not ours."""
    with pytest.raises(LeaseLost):
        await change


def of_retention() -> dict[str, list[Ask]]:
    """Purge, its archive, and what it deletes beside deliveries."""
    strip = ids(State.DELIVERED, *range(200, 300))
    over = NOW - timedelta(days=60)
    part, claim = ArchivePart(FEED, DAY.date(), 7), Claim(FEED, "token", None, None, ())
    contents = Contents(1, 1, 1, "sha", "a", "b")
    return {
        "archives.done": [Ask(lambda at: at.archives.done(part, NOW))],
        "archives.drop": [Ask(lambda at: at.archives.drop(part))],
        "archives.get": [Ask(lambda at: at.archives.get(part))],
        "archives.give_up": [Ask(lambda at: at.archives.give_up(PAUSED, NOW))],
        "archives.of_feed": [Ask(lambda at: at.archives.of_feed(FEED))],
        "archives.open": [Ask(lambda at: at.archives.open(FEED))],
        "archives.verified": [Ask(lambda at: at.archives.verified(part, contents, NOW))],
        "purge_watermarks.get": [Ask(lambda at: at.purge_watermarks.get(FEED))],
        "purge_watermarks.raise_to": [Ask(lambda at: at.purge_watermarks.raise_to(FEED, NOW, 1))],
        "purges.claim": [Ask(lambda at: at.purges.claim(BIG, "me", NOW, LEASE))],
        "purges.holder": [Ask(lambda at: at.purges.holder(FEED))],
        "purges.progress": [Ask(lambda at: at.purges.progress(FEED))],
        "purges.note_chunk": [Ask(lambda at: _ours(at.purges.note_chunk(claim, [])))],
        "purges.note_purged": [Ask(lambda at: _ours(at.purges.note_purged(claim, NOW)))],
        "purges.note_stats": [Ask(lambda at: _ours(at.purges.note_stats(claim, NOW)))],
        "purges.note_stripped": [Ask(lambda at: _ours(at.purges.note_stripped(claim, NOW)))],
        "purges.release": [Ask(lambda at: at.purges.release(claim))],
        "purges.renew": [Ask(lambda at: _ours(at.purges.renew(claim, LATER)))],
        "purges.stats_deleted_before": [Ask(lambda at: at.purges.stats_deleted_before(FEED))],
        "retention.any_restored": [
            Ask(lambda at: at.retention.any_restored(FEED)),
            Ask(lambda at: at.retention.any_restored(PAUSED)),
        ],
        "retention.count": [
            Ask(partial(_count, category=one), within=ONE_DAY) for one in CATEGORIES
        ],
        "retention.count_payloads": [
            Ask(lambda at: at.retention.count_payloads(FEED, DELIVERED, ALL_DAY), within=ONE_DAY)
        ],
        "retention.count_stats": [
            Ask(lambda at: at.retention.count_stats(FEED, NOW - timedelta(hours=49)), within=60)
        ],
        "retention.drop": [Ask(_drop)],
        "retention.drop_attempts": [
            Ask(lambda at: at.retention.drop_attempts([f"{one}#aa" for one in strip]))
        ],
        "retention.drop_attempts_of": [
            Ask(lambda at: at.retention.drop_attempts_of(strip[:10], LATER))
        ],
        "retention.drop_certificates": [Ask(lambda at: at.retention.drop_certificates(FEED, over))],
        "retention.drop_reports": [
            Ask(lambda at: at.retention.drop_reports(FEED, NOW - timedelta(days=30)), within=48)
        ],
        "retention.drop_stats": [
            Ask(lambda at: at.retention.drop_stats(FEED, NOW - timedelta(hours=49)))
        ],
        "retention.existing": [Ask(lambda at: at.retention.existing(strip))],
        "retention.first": [Ask(lambda at: at.retention.first(FEED, LATER))],
        "retention.owed_batches": [Ask(lambda at: at.retention.owed_batches())],
        "retention.put_back": [Ask(_put_back)],
        "retention.read": [Ask(partial(_read, category=one)) for one in CATEGORIES],
        "retention.records": [Ask(_put_back)],
        "retention.strip": [Ask(lambda at: at.retention.strip(FEED, DELIVERED, strip, ALL_DAY))],
    }


def of_jobs() -> dict[str, list[Ask]]:
    """Periodic jobs, and the reports and certificates that come of them."""
    end = NOW.replace(minute=0, second=0)
    period, key = (
        Period(Kind.HOUR, end - timedelta(hours=1), end, "new"),
        ReportKey(FEED, "hour", "new", NOW, LATER),
    )
    until, step = LATER + LEASE, StepDone("orders", NOW, 1, {})
    revised, stored = Revised(1, NOW, []), {"_id": f"{FEED}|new", "retry_at": NOW}
    paused = Found(Event.FEED_PAUSED, FEED, "why")
    event = {"_id": paused.id, "retry_at": NOW, "told": True, "seen_at": NOW}
    certificate = Certificate(FEED, LATER, 1, 0, {}, begun_at=NOW)
    return {
        "counts.exactly": [
            Ask(lambda at: at.counts.exactly(BIG), within=COUNTS[BIG][State.DELIVERED])
        ],
        "counts.recount": [Ask(lambda at: at.counts.recount(FEED, NOW), within=ONE_DAY)],
        "counts.about": [
            Ask(lambda at: at.counts.about(FEED, LATER), within=20),
            Ask(_about_restored, within=RESTORED),
        ],
        "counts.mark": [Ask(lambda at: at.counts.mark(FEED, [DAY], NOW))],
        "counts.remember": [Ask(_remember, within=ONE_DAY)],
        "counts.fold": [Ask(lambda at: at.counts.fold(FEED, LATER), within=20)],
        "certificates.at_or_before": [
            Ask(lambda at: at.certificates.at_or_before(FEED, NOW - timedelta(days=50)))
        ],
        "certificates.first_begun_since": [
            Ask(lambda at: at.certificates.first_begun_since(FEED, DAY))
        ],
        "certificates.latest": [Ask(lambda at: at.certificates.latest(FEED))],
        "certificates.page": [
            Ask(partial(_certificates_page, before=before)) for before in (None, DAY)
        ],
        "certificates.save": [Ask(lambda at: at.certificates.save(certificate))],
        "notifications.begin": [
            Ask(lambda at: at.notifications.begin(paused, NOW)),
            Ask(lambda at: at.notifications.begin(paused, NOW)),
        ],
        "notifications.claim": [Ask(lambda at: at.notifications.claim(event, until))],
        "notifications.end": [Ask(lambda at: at.notifications.end(event, ["mail"], NOW))],
        "notifications.forget": [Ask(lambda at: at.notifications.forget(NOW))],
        "notifications.looked_at": [Ask(lambda at: at.notifications.looked_at())],
        "notifications.kept": [Ask(lambda at: at.notifications.kept())],
        "notifications.next_try": [
            Ask(lambda at: at.notifications.next_try(paused.id, until, None))
        ],
        "notifications.note_failed": [
            Ask(
                lambda at: at.notifications.note_failed(
                    paused.id, until, "mail", "why", NOW, give_up=False
                )
            )
        ],
        "notifications.note_sent": [
            Ask(lambda at: at.notifications.note_sent(paused.id, until, "mail", NOW))
        ],
        "notifications.owe": [Ask(lambda at: at.notifications.owe(paused.id, ["mail"], NOW))],
        "notifications.owed": [Ask(lambda at: at.notifications.owed(LATER, 10, LEASE))],
        "notifications.say": [
            Ask(lambda at: at.notifications.say(event, Message.BEGAN, ["mail"], NOW, LATER))
        ],
        "notifications.see": [Ask(lambda at: at.notifications.see(paused, NOW))],
        "notifications.take_turn": [Ask(lambda at: at.notifications.take_turn(NOW, LEASE))],
        "reports.claim": [Ask(lambda at: at.reports.claim(stored, until))],
        "reports.page": [
            Ask(lambda at: at.reports.page(FEED, None, "", None, 20)),
            Ask(lambda at: at.reports.page(FEED, "day", "2026", "2026-02", 20), within=500),
        ],
        "reports.get": [Ask(lambda at: at.reports.get(FEED, "new"))],
        "reports.insert": [Ask(lambda at: at.reports.insert(key, {}, ["mail"], NOW))],
        "reports.next_try": [Ask(lambda at: at.reports.next_try(key.id, until, None))],
        "reports.note_failed": [
            Ask(lambda at: at.reports.note_failed(key.id, until, "mail", "why", NOW, give_up=False))
        ],
        "reports.note_sent": [Ask(lambda at: at.reports.note_sent(key.id, until, "mail", NOW))],
        "reports.owe": [Ask(lambda at: at.reports.owe(key.id, ["mail"], NOW))],
        "reports.owed": [Ask(lambda at: at.reports.owed(LATER, 10, LEASE))],
        "reports.revise": [Ask(lambda at: at.reports.revise(stored, {}, revised, ["mail"]))],
        "reports.upgrade": [Ask(lambda at: at.reports.upgrade(stored | {"report": {}}, {}))],
        "ticks.claim": [Ask(lambda at: _tick(at, at.ticks.release))],
        "ticks.finish": [
            Ask(lambda at: _tick(at, lambda tick: at.ticks.finish(tick, TickState.DONE, NOW, None)))
        ],
        "ticks.forget": [Ask(lambda at: at.ticks.forget("reconcile", NOW - timedelta(days=90)))],
        "ticks.hasten": [Ask(_hasten)],
        "ticks.last": [
            Ask(lambda at: at.ticks.last("report-hour", [TickState.DONE])),
            Ask(lambda at: at.ticks.last("report-hour", [TickState.FAILED])),
            Ask(lambda at: at.ticks.last("report-hour", [TickState.DONE, TickState.FAILED])),
        ],
        "ticks.latest": [Ask(lambda at: at.ticks.latest("report-hour", LATER))],
        "ticks.note_step": [Ask(lambda at: _tick(at, lambda tick: at.ticks.note_step(tick, step)))],
        "ticks.open": [Ask(lambda at: at.ticks.open("report-hour"))],
        "ticks.close_missed": [Ask(_close_missed)],
        "ticks.plan": [Ask(lambda at: at.ticks.plan("report-day", [(period, NOW)]))],
        "ticks.release": [Ask(lambda at: _tick(at, at.ticks.release))],
        "ticks.renew": [Ask(lambda at: _tick(at, lambda tick: at.ticks.renew(tick, until)))],
        "ticks.retry": [Ask(lambda at: _tick(at, lambda tick: at.ticks.retry(tick, NOW, "why")))],
        "ticks.unplan": [Ask(lambda at: at.ticks.unplan("report-day", LATER))],
        "ticks.standing_for": [
            Ask(lambda at: at.ticks.standing_for("report-day", NOW - timedelta(days=50)))
        ],
    }


async def _hasten(ledger: Ledger) -> None:
    (tick, *_) = await ledger.ticks.open("report-hour")
    await ledger.ticks.hasten(tick, NOW)


async def _close_missed(ledger: Ledger) -> None:
    (tick, *_) = await ledger.ticks.open("report-day")
    await ledger.ticks.close_missed(tick, TickState.SKIPPED, NOW, "why")


def of_a_feed() -> dict[str, list[Ask]]:
    """What there is one of a feed, of a process, or of a feed and minute."""
    origin, stamp = Origin("orders", ("id",), "identity", "id"), Stamp("me", NOW)
    rewound = Cursor("rewound")
    cursor, page = Cursor("new"), Page((), 1, (), full=False)
    heartbeat = Heartbeat(Role.WORKER, "celery@here", "here", 1, NOW, NOW)
    walk, hour_ago = Scan(FEED, "token", NOW, 1, ()), NOW - timedelta(hours=1)
    results: list[Any] = []
    notice = Notice(DiscrepancyKind.CHANGED, "what", NOW)
    return {
        "cursors.adopt": [Ask(lambda at: at.cursors.adopt(FEED, origin, "told", stamp))],
        "cursors.originate": [Ask(lambda at: at.cursors.originate(FEED, origin))],
        "cursors.advance": [Ask(lambda at: at.cursors.advance(cursor, page, NOW))],
        "pauses.count_refusals": [
            Ask(lambda at: at.pauses.count_refusals(FEED, 1, NOW, begin=False)),
            Ask(lambda at: at.pauses.count_refusals(FEED, 1, NOW, begin=True)),
        ],
        "cursors.feeds": [Ask(lambda at: at.cursors.feeds())],
        "cursors.forget": [Ask(lambda at: at.cursors.forget(FEED, [notice.kind], NOW))],
        "cursors.get": [Ask(lambda at: at.cursors.get(FEED))],
        "cursors.note_empty": [Ask(lambda at: at.cursors.note_empty(cursor, page, NOW))],
        "cursors.note_failure": [Ask(lambda at: at.cursors.note_failure(FEED, NOW, "why", LATER))],
        "cursors.note_poll": [Ask(lambda at: at.cursors.note_poll(FEED, NOW))],
        "cursors.notice": [Ask(lambda at: at.cursors.notice(FEED, [notice]))],
        "cursors.offer": [Ask(lambda at: at.cursors.offer(FEED, ["id"]))],
        "pauses.pause": [Ask(lambda at: at.pauses.pause(PAUSED, "why"))],
        "pauses.pause_sending": [Ask(lambda at: at.pauses.pause_sending(PAUSED, "why"))],
        "pauses.resume_polling": [Ask(lambda at: at.pauses.resume_polling(PAUSED))],
        "pauses.resume_sending": [Ask(lambda at: at.pauses.resume_sending(PAUSED))],
        "pauses.paused": [Ask(lambda at: at.pauses.paused())],
        "pauses.pauses_and_resumes": [Ask(lambda at: at.pauses.pauses_and_resumes())],
        "pauses.refusals": [Ask(lambda at: at.pauses.refusals(FEED))],
        "pauses.resume": [Ask(lambda at: at.pauses.resume(BIG))],
        "cursors.rewind": [Ask(lambda at: at.cursors.rewind(rewound, rewound, "told", stamp))],
        "heartbeats.forget": [Ask(lambda at: at.heartbeats.forget(hour_ago))],
        "heartbeats.leave": [Ask(lambda at: at.heartbeats.leave(Role.WORKER, "celery@gone", 1))],
        "heartbeats.put": [Ask(lambda at: at.heartbeats.put(heartbeat))],
        "heartbeats.since": [Ask(lambda at: at.heartbeats.since(hour_ago, Role.WORKER, "here"))],
        "stats.add_logged": [Ask(lambda at: at.stats.add_logged(FEED, 1, NOW))],
        "stats.add_opening": [Ask(lambda at: at.stats.add_opening(FEED, NOW, LEASE))],
        "stats.add_outcomes": [
            Ask(lambda at: at.stats.add_outcomes(FEED, Outcome.UNKNOWN, 1, NOW))
        ],
        "stats.add_revived": [Ask(lambda at: at.stats.add_revived(FEED, [(NOW, "why")], NOW))],
        "stats.add_results": [Ask(lambda at: at.stats.add_results(FEED, results, NOW))],
        "stats.between": [Ask(lambda at: at.stats.between(FEED, hour_ago, NOW))],
        "stats.feeds": [Ask(lambda at: at.stats.feeds())],
        "stats.sample": [Ask(lambda at: at.stats.sample({FEED: Gauge(1, NOW, paused=False)}, NOW))],
        "counters.of": [Ask(lambda at: at.counters.of(FEED, NOW))],
        "scans.begin": [Ask(lambda at: at.scans.begin(walk, NOW))],
        "scans.end": [Ask(lambda at: at.scans.end(walk))],
        "scans.resume": [Ask(lambda at: at.scans.resume(FEED, "other", NOW, ""))],
        "scans.save": [Ask(lambda at: at.scans.save(walk, NOW))],
    }
