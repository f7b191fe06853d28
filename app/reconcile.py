"""Reconcile a feed: look each source row's delivery up, log what is missing, and certify what became of every row.

The walk goes over what the cursor has read, from above the retention floor up to where the cursor stood when the walk
began (P), a window at a time, in the cursor's own order. Nothing is locked and nobody waits: polls and deliveries go
on. The sums are right all the same:

- each row is counted once, in the state that its delivery was in when its window was looked at. The sum balances by
  construction: a row adds one to the source's rows and one to a state, or is missing;
- a row at or below P was logged before the cursor came to P. So a row without a delivery is missing, but for

  1. a row in an open gap: the cursor itself still asks for it. The gaps are read after the deliveries were looked up,
     and the deliveries once more after the gaps, because a poll logs a late row before it closes its gap;
  2. a row whose delivery retention has purged. The floor is read last, because it is raised before a record goes;

- what is missing is read whole from the source by key, and logged as a poll would log it (see `app.intake`): under the
  id that the row always has, so that logging it again, or two at once, changes nothing;
- a row that is updated meanwhile may leave what is walked for a place above P. A poll reads it there.

A reconciliation may die anywhere. What it logged is in the ledger; the next run goes on from the window that was saved
last, or begins anew, and finds those rows there.

In the end the deliveries are compared with the source, but only where their number tells that some have no row: a row
that was deleted is no loss, and is counted by the state that its delivery is in.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias, TypeVar

import structlog

from app.clock import Clock, utc_now
from app.compare import Compared, changed, compare, hash_sum, sharing, still_there
from app.errors import SourceRefused, Unavailable
from app.feed import Feed
from app.intake import Intake, backlog
from app.ledger import Ledger
from app.ledger.audit import Fact
from app.ledger.deliveries import delivery_id
from app.ledger.floors import Floor, higher
from app.ledger.walks import Phase, Walk
from app.models import (
    MISSING_NAMED,
    Certificate,
    Cursor,
    Discrepancy,
    DiscrepancyKind,
    Gap,
    Origin,
    Position,
    SourceRow,
    Span,
    State,
    is_short_key,
)
from app.queue import Queue
from app.source.catalogue import origin_of
from app.source.reader import Source
from app.source.walk import Stretch, Window
from app.standing import of_cursor, of_other_source, of_removed

log = structlog.get_logger()

WINDOW = 2000
"""Source rows looked up together."""
CHUNK = 500
"""Rows that are read whole together, at most; and deliveries whose rows are looked up together."""
STRIDE = 50_000
"""Rows, or ids, that one statement counts."""
HEALED_AT_MOST = 10_000
"""Rows that a run nobody watches logs at most. What is more is told, and left to an operator or the next run."""
SAVED_EVERY = timedelta(seconds=5)
RESUMED_WITHIN = timedelta(hours=6)
"""A walk that was cut off is gone on with for this long; then the next one begins anew."""
PATIENCE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The waits before a walk that has come some way gives a source or ledger up that cannot be reached."""
LONGEST_REST_SECONDS = 1.0
"""Between two statements the source is left alone for as long as the last one took, but for no longer than this."""

T = TypeVar("T")

Since: TypeAlias = "timedelta | int | str | None"
"""Compare from what was read since then on, or from after that position on; `None`: everything."""
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how many rows of it are done, and about how many there are, where that is known."""
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


def _untold(doing: str, done: int, of: int | None) -> None:
    """Progress that nobody watches."""


@dataclass(slots=True)
class _Run:
    """One walk of one process."""

    feed: Feed
    walk: Walk
    dry: bool
    tell: Progress
    saved_at: datetime
    acknowledge: str = ""
    """Who takes changed rows as they are now; empty: nobody, they are named."""


class Reconciling:
    """Reconciles feeds for one process."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        queue: Queue,
        *,
        message_wait: timedelta,
        heal_at_most: int = HEALED_AT_MOST,
        now: Clock = utc_now,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`message_wait`: after this long without a claim, the sweep takes a batch's message for lost."""
        self._source = source
        self._ledger = ledger
        self._intake = Intake(ledger, queue, message_wait=message_wait, now=now)
        self._heal_at_most = heal_at_most
        self._now = now
        self._sleep = sleep

    async def reconcile(
        self,
        feed: Feed,
        *,
        since: Since = None,
        dry_run: bool = False,
        resume: bool = True,
        acknowledge: str = "",
        progress: Progress = _untold,
    ) -> Certificate:
        """Compare the feed's source with the ledger, heal what is missing, and save the certificate.

        `dry_run` changes and saves nothing. `acknowledge`: who takes changed rows as they are now.
        `resume` goes on with a walk over the whole feed that was cut off.
        Raises the source's and the ledger's errors; `SourceRefused` also where the ledger does not say from where on
        the feed was read, and `since` does not either.
        """
        cursor = await self._ledger.cursors.get(feed.name)
        if cursor.origin is not None and cursor.origin != origin_of(feed):
            return await self._refused(feed, cursor.origin, dry_run=dry_run)
        walk = None if dry_run or since is not None or not resume else await self._resumed(feed)
        walk = walk or await self._begun(feed, since, dry_run=dry_run)
        run = _Run(feed, walk, dry_run, progress, self._now(), acknowledge)
        if walk.phase is Phase.PURGED:
            await self._count_purged(run)
        if walk.phase is Phase.SOURCE:
            await self._walk_source(run)
        if walk.phase is Phase.LEDGER and self._some_have_no_row(walk):
            await self._walk_ledger(run)
        certificate = self._certificate(walk, await self._standing_of(run))
        if not dry_run:
            await self._ledger.certificates.save(certificate)
            await self._ledger.walks.end(walk)
            await self._forget(certificate)
        _say(certificate, dry_run=dry_run)
        return certificate

    async def removed(self, feeds: Collection[str], *, dry_run: bool = False) -> list[Certificate]:
        """Certify what is owed of feeds that the ledger knows and `feeds` does not name: those that owe something, or
        did by their last certificate. Raises the ledger's errors.
        """
        owing = await self._ledger.deliveries.open_by_feed()
        known = {*await self._ledger.cursors.feeds(), *owing} - set(feeds)
        made: list[Certificate] = []
        for name in sorted(known):
            owed, _ = owing.get(name, (0, None))
            latest = await self._ledger.certificates.latest(name)
            if owed or (latest and _owed_before(latest)):
                ids = await self._ledger.deliveries.open_ids(name, MISSING_NAMED)
                made.append(of_removed(name, owed, ids, self._now()))
        for certificate in made if not dry_run else ():
            await self._ledger.certificates.save(certificate)
            _say(certificate, dry_run=dry_run)
        return made

    async def _refused(self, feed: Feed, origin: Origin, *, dry_run: bool) -> Certificate:
        """What the feed reads is not compared with deliveries of another source: each row would be missing."""
        audit = self._ledger.audit
        total, ids = await audit.total(feed.name, STRIDE), await audit.ids_after(feed.name, "", MISSING_NAMED)
        certificate = of_other_source(feed, origin, total, ids, self._now())
        if not dry_run:
            await self._ledger.certificates.save(certificate)
        _say(certificate, dry_run=dry_run)
        return certificate

    async def _standing_of(self, run: _Run) -> Sequence[Discrepancy]:
        """What the cursor does not reach, asked when the walk is over."""
        cursor = await self._ledger.cursors.get(run.feed.name)
        outside = await self._patient(run, lambda: self._source.outside(run.feed, cursor))
        in_gaps = run.walk.awaited, run.walk.awaited_ids
        return tuple(of_cursor(run.feed, cursor, outside, in_gaps, self._now()))

    async def _forget(self, certificate: Certificate) -> None:
        """Drop what polls noticed before, and this comparison of all of the feed found no more."""
        if certificate.since is None and certificate.begun_at:
            still = {found.kind for found in certificate.discrepancies}
            over = [kind for kind in DiscrepancyKind if kind not in still]
            await self._ledger.cursors.forget(certificate.feed, over, certificate.begun_at)

    # --- where it begins

    async def _resumed(self, feed: Feed) -> Walk | None:
        token = secrets.token_hex(8)
        walk = await self._ledger.walks.resume(feed.name, token, self._now() - RESUMED_WITHIN)
        if walk:
            begun_at = walk.begun_at.isoformat()
            log.info("reconciliation_resumed", feed=feed.name, begun_at=begun_at, rows=walk.source_rows)
        return walk

    async def _begun(self, feed: Feed, since: Since, *, dry_run: bool) -> Walk:
        begun_at = self._now()
        cursor, total = await self._standing(feed)
        after = await self._position_of(feed, since)
        floor = await self._ledger.floors.get(feed.name)
        walk = Walk(
            feed=feed.name,
            token=secrets.token_hex(8),
            begun_at=begun_at,
            position=cursor.position,
            spans=await self._spans(feed, cursor, after),
            since=after,
            floor=_leading(floor.position) if floor else None,
            total=total,
        )
        if not dry_run:
            await self._ledger.walks.begin(walk, begun_at)
        return walk

    async def _standing(self, feed: Feed) -> tuple[Cursor, int | None]:
        """The cursor, and how many deliveries there were at that moment; `None` where a poll moved it meanwhile."""
        for _ in range(3):
            before = await self._ledger.cursors.get(feed.name)
            total = await self._ledger.audit.total(feed.name, STRIDE)
            cursor = await self._ledger.cursors.get(feed.name)
            if cursor.version == before.version:
                return cursor, total
        return cursor, None

    async def _position_of(self, feed: Feed, since: Since) -> Position:
        """Where the cursor stood that long ago, as certificates tell: at the last one from before then."""
        if not isinstance(since, timedelta):
            return since
        certificate = await self._ledger.certificates.at_or_before(feed.name, self._now() - since)
        return certificate.position if certificate else None

    async def _spans(self, feed: Feed, cursor: Cursor, since: Position) -> tuple[Span, ...]:
        """What the cursor has read, each stretch with its end."""
        if cursor.position is None:
            return ()
        if cursor.spans:
            return (*cursor.spans[:-1], Span(cursor.spans[-1].after, cursor.position))
        start = feed.cursor.start
        if start == "now" and since is None:
            raise SourceRefused(
                f"feed {feed.name}: it is not on record where reading began; say from where on to compare: --since"
            )
        if start in ("now", "beginning"):
            return (Span(None, cursor.position),)
        begun = await self._source.begin(feed, start, self._now())
        return (Span(begun.spans[-1].after, cursor.position),)

    # --- the source's rows

    async def _count_purged(self, run: _Run) -> None:
        """Count what was asked for and lies below the floor. The server counts, `STRIDE` rows a statement."""
        walk = run.walk
        for place, span in enumerate(() if walk.floor is None else walk.spans):
            after = higher(walk.since, span.after)
            if after is None or higher(after, walk.floor) != after:
                await self._count_span(run, Stretch(span, walk.spans[:place], walk.floor), after)
        walk.phase = Phase.SOURCE

    async def _count_span(self, run: _Run, stretch: Stretch, after: Position) -> None:
        while True:
            started = time.monotonic()
            rows, reached = await self._source.count(run.feed, stretch, after, STRIDE)
            run.walk.purged += rows
            run.tell("rows that may be purged", run.walk.purged, None)
            if reached is None:
                return
            after = reached
            await self._sleep(min(time.monotonic() - started, LONGEST_REST_SECONDS))

    async def _walk_source(self, run: _Run) -> None:
        feed, walk = run.feed, run.walk
        while walk.place < len(walk.spans):
            span = walk.spans[walk.place]
            stretch = Stretch(span, walk.spans[: walk.place])
            after = _lower_end(walk, span) if walk.after is None else walk.after
            rows = min(WINDOW, feed.page_size)  # they are read whole, as by a poll
            read = partial(self._window, feed, stretch, after, rows)
            started = time.monotonic()
            window = await self._patient(run, read)
            ended = time.monotonic()
            before = walk.missing
            await self._account(run, window.rows, read)
            walk.after = window.reached
            if not window.more:
                walk.place, walk.after = walk.place + 1, None
            run.tell("source rows", walk.source_rows, walk.total)
            await self._save(run, at_once=walk.missing > before)
            rest = ended + min(ended - started, LONGEST_REST_SECONDS) - time.monotonic()
            await self._sleep(max(rest, 0))
        walk.phase = Phase.LEDGER

    async def _window(self, feed: Feed, stretch: Stretch, after: Position, limit: int) -> Window:
        agreed = (await self._ledger.cursors.get(feed.name)).columns
        return await self._source.walk(feed, stretch, after, limit, agreed)

    async def _account(self, run: _Run, rows: Sequence[SourceRow], read: Callable[[], Awaitable[Window]]) -> None:
        """Count a window's rows: by number and sum where each agrees with its delivery, else row by row.

        `read` reads the window again.
        """
        walk = run.walk
        if floor := _floor(walk):
            above = [row for row in rows if not floor.covers(row.position)]
            walk.purged += len(rows) - len(above)
            rows = above
        if not rows:
            return
        by_id = {delivery_id(walk.feed, row): row for row in rows}
        counts, hashes = await self._patient(run, lambda: self._ledger.audit.count_states(list(by_id)))
        if counts.total() == len(rows) and hashes == hash_sum(rows):
            walk.source_rows += len(rows)
            walk.found += len(by_id)
            walk.states += counts
            return
        missing = await self._by_row(run, rows, read)
        for chunk in _chunks(missing, min(CHUNK, run.feed.page_size)):
            await self._settle(run, chunk)
        if missing:
            self._say_missing(run, missing)

    async def _by_row(
        self, run: _Run, rows: Sequence[SourceRow], read: Callable[[], Awaitable[Window]]
    ) -> list[SourceRow]:
        """Count the rows that have a delivery, and those left out. Returns the others: the missing."""
        walk, audit = run.walk, self._ledger.audit
        facts = await self._patient(run, lambda: audit.facts_of([delivery_id(walk.feed, row) for row in rows]))
        compared = compare(walk.feed, rows, facts)
        if compared.suspects:
            await self._confirm(run, compared, read)
        walk.by_key += compared.by_key
        self._count(walk, [fact.state for _, fact in compared.own])
        if not compared.absent:
            return []
        gaps = (await self._ledger.cursors.get(walk.feed)).gaps  # in this order: see above
        states = await audit.states_of(list(compared.absent))
        floor = await self._ledger.floors.get(walk.feed)
        self._count(walk, list(states.values()))
        missing: list[SourceRow] = []
        for known, row in compared.absent.items():
            if known in states:
                continue
            if _in_a_gap(row.position, gaps):
                walk.awaited += _named(walk.feed, [row], walk.awaited_ids)
            elif floor and floor.covers(row.position):
                walk.purged += 1
            else:
                missing.append(row)
        return missing

    def _count(self, walk: Walk, states: Sequence[State]) -> None:
        """Count rows that have a delivery of their own."""
        walk.source_rows += len(states)
        walk.found += len(states)
        walk.states += Counter(states)

    async def _confirm(self, run: _Run, compared: Compared, read: Callable[[], Awaitable[Window]]) -> None:
        """Look at the suspects again, on both sides, and note those that stay: as changed, or as sharing a key.

        All but the latter have a delivery, so they go to what has its own.
        """
        walk, feed = run.walk, run.feed
        again = (await self._patient(run, read)).rows
        ids = [delivery_id(walk.feed, row) for row in compared.suspects]
        facts = await self._patient(run, lambda: self._ledger.audit.facts_of(ids))
        there = still_there(walk.feed, compared.suspects, again)
        keys = list(dict.fromkeys(row.key for row in there if not row.error))
        found: list[SourceRow] = []
        agreed = (await self._ledger.cursors.get(feed.name)).columns
        for chunk in _chunks(keys, min(CHUNK, feed.page_size)):
            found += await self._patient(run, lambda: self._source.find_all(feed, chunk, agreed))  # noqa: B023
        shared = sharing(walk.feed, there, compared.rows, found, facts)
        differing = [row for row in there if row not in shared and _differs(walk.feed, row, facts)]
        walk.source_rows += len(shared)
        walk.shared += _named(walk.feed, shared, walk.shared_ids)
        if run.acknowledge and not run.dry:
            walk.acknowledged += await self._acknowledge(run, differing, facts)
        else:
            walk.changed += _named(walk.feed, differing, walk.changed_ids)
        for row in compared.suspects:
            if row not in shared and (fact := facts.get(delivery_id(walk.feed, row))):
                compared.own.append((row, fact))

    async def _acknowledge(self, run: _Run, rows: Sequence[SourceRow], facts: Mapping[str, Fact]) -> int:
        ids = {delivery_id(run.feed.name, row): row.content for row in rows}
        contents = {known: (was, ids[known]) for known in ids if (was := facts[known].content) is not None}
        return await self._ledger.audit.acknowledge(contents, run.acknowledge, self._now())

    # --- what is missing

    async def _settle(self, run: _Run, missing: Sequence[SourceRow]) -> None:
        """Count rows that are missing, and log them, within the bounds; in a dry run only count them."""
        walk = run.walk
        logged = await self._heal(run, missing) if await self._may_heal(run) else {}
        states = [state for row in missing if (state := logged.get(row.key))]
        walk.source_rows += len(missing)
        walk.missing += len(missing)
        walk.healed += len(states)
        walk.found += len(states)
        walk.states += Counter(states)
        _named(walk.feed, missing, walk.missing_ids)

    async def _may_heal(self, run: _Run) -> bool:
        if run.dry or run.walk.healed >= self._heal_at_most:
            return False
        return await backlog(run.feed, self._ledger) < run.feed.max_backlog

    async def _heal(self, run: _Run, missing: Sequence[SourceRow]) -> dict[str, State]:
        """Read the rows whole and log them. Returns key → state; not for a row that was deleted meanwhile.

        With `capture = "changes"` a row that was updated meanwhile is logged as the change that it is now.
        """
        keyless = [row for row in missing if row.error]
        keys = [row.key for row in missing if not row.error]
        agreed = (await self._ledger.cursors.get(run.feed.name)).columns
        whole = await self._patient(run, lambda: self._source.find_all(run.feed, keys, agreed))
        rows = [*keyless, *_one_a_key(run.feed.name, whole, missing)]
        logged = await self._patient(run, lambda: self._intake.log(run.feed, rows))
        await self._intake.send(run.feed, logged)
        states = await self._ledger.audit.states_of([delivery_id(run.feed.name, row) for row in rows])
        return {row.key: states[known] for row in rows if (known := delivery_id(run.feed.name, row)) in states}

    def _say_missing(self, run: _Run, missing: Sequence[SourceRow]) -> None:
        ids = [delivery_id(run.walk.feed, row) for row in missing[:10]]
        log.warning("rows_missing", feed=run.walk.feed, rows=len(missing), first=ids, dry_run=run.dry)

    # --- the ledger's deliveries

    def _some_have_no_row(self, walk: Walk) -> bool:
        """Whether deliveries are left over; where they could not be counted, some may be. Not asked of a part."""
        return walk.since is None and walk.total != walk.found - walk.healed

    async def _walk_ledger(self, run: _Run) -> None:
        """Look the row of each delivery up by its key, and count those whose row is gone."""
        walk, done = run.walk, 0
        while True:
            ids = await self._patient(run, lambda: self._ledger.audit.ids_after(walk.feed, walk.last_id, CHUNK))
            if not ids:
                return
            keys = await self._keys_of(run, ids)
            started = time.monotonic()
            wanted = list(dict.fromkeys(keys.values()))
            present = await self._patient(run, lambda: self._source.present(run.feed, wanted))  # noqa: B023
            took = time.monotonic() - started
            gone = [known for known, key in keys.items() if key in present and present[key] is None]
            walk.deleted_states += Counter((await self._ledger.audit.states_of(gone)).values()) if gone else Counter()
            walk.superseded += _superseded(run.feed, keys, present)
            walk.last_id, done = ids[-1], done + len(ids)
            run.tell("deliveries", done, walk.total)
            await self._save(run)
            await self._sleep(min(took, LONGEST_REST_SECONDS))

    async def _keys_of(self, run: _Run, ids: Sequence[str]) -> dict[str, str]:
        """Delivery id → key: out of the id, or from the ledger where the id holds a hash of it."""
        hashed = [known for known in ids if is_short_key(known)]
        whole = await self._patient(run, lambda: self._ledger.audit.keys_of(hashed)) if hashed else {}
        return {known: whole.get(known) or _key_of(run.feed, known) for known in ids}

    # --- on the way

    async def _patient(self, run: _Run, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask; where the other side cannot be reached, again after a while, unless the walk has only begun."""
        for wait in PATIENCE_SECONDS if run.walk.source_rows else ():
            try:
                return await ask()
            except Unavailable as error:
                log.warning("reconciliation_waits", feed=run.feed.name, seconds=wait, error=str(error))
                run.tell(f"waiting {wait:g} s: {error}", run.walk.source_rows, run.walk.total)
                await self._sleep(wait)
        return await ask()

    async def _save(self, run: _Run, *, at_once: bool = False) -> None:
        now = self._now()
        if not run.dry and (at_once or now - run.saved_at >= SAVED_EVERY):
            await self._patient(run, lambda: self._ledger.walks.save(run.walk, now))
            run.saved_at = now

    def _certificate(self, walk: Walk, others: Sequence[Discrepancy]) -> Certificate:
        now = self._now()
        return Certificate(
            feed=walk.feed,
            at=now.replace(microsecond=now.microsecond // 1000 * 1000),  # as the ledger keeps it
            position=walk.position,
            source_rows=walk.source_rows,
            states={state: walk.states[state] for state in State},
            missing=walk.missing,
            missing_ids=tuple(walk.missing_ids),
            healed=walk.healed,
            deleted=walk.deleted_states.total(),
            deleted_states=dict(walk.deleted_states),
            purged=walk.purged,
            awaited=walk.awaited,
            superseded=walk.superseded,
            since=walk.since,
            begun_at=walk.begun_at.replace(microsecond=walk.begun_at.microsecond // 1000 * 1000),
            discrepancies=(*_of_rows(walk), *others),
            by_key=walk.by_key,
            acknowledged=walk.acknowledged,
        )


def _of_rows(walk: Walk) -> Iterator[Discrepancy]:
    if walk.shared:
        yield Discrepancy(DiscrepancyKind.SHARED_KEY, walk.shared, tuple(walk.shared_ids))
    if walk.changed:
        yield Discrepancy(DiscrepancyKind.CHANGED, walk.changed, tuple(walk.changed_ids))


def _owed_before(certificate: Certificate) -> bool:
    return any(found.kind is DiscrepancyKind.REMOVED for found in certificate.discrepancies)


def _say(certificate: Certificate, *, dry_run: bool) -> None:
    level = log.info if certificate.complete else log.warning
    level(
        "reconciled",
        feed=certificate.feed,
        rows=certificate.source_rows,
        missing=certificate.missing,
        discrepancies={found.kind.value: found.count for found in certificate.discrepancies},
        healed=certificate.healed,
        deleted=certificate.deleted,
        complete=certificate.complete,
        dry_run=dry_run,
    )


def _floor(walk: Walk) -> Floor | None:
    """The floor as it was when the walk began."""
    return None if walk.floor is None else Floor(walk.feed, walk.begun_at, walk.floor)


def _lower_end(walk: Walk, span: Span) -> Position:
    """Where a span's walk begins: the highest of its own begin, what was asked for, and the floor."""
    return higher(walk.floor, higher(walk.since, span.after))


def _leading(position: Position) -> Position:
    leading = position[0] if isinstance(position, list) else position
    return None if isinstance(leading, list) else leading


def _in_a_gap(position: Position, gaps: Iterable[Gap]) -> bool:
    if not isinstance(position, int):
        return False
    return any((gap.low is None or gap.low <= position) and position <= gap.high for gap in gaps)


def _key_of(feed: Feed, known: str) -> str:
    """The key in a delivery's id."""
    key = known[len(feed.name) + 1 :]
    return key.rpartition(":")[0] if feed.capture == "changes" else key


def _differs(feed: str, row: SourceRow, facts: Mapping[str, Fact]) -> bool:
    fact = facts.get(delivery_id(feed, row))
    return fact is not None and changed(row, fact)


def _named(feed: str, rows: Sequence[SourceRow], ids: list[str]) -> int:
    """Add the rows' ids to those that are named, within the bound. Returns how many rows there are."""
    ids += [delivery_id(feed, row) for row in rows[: MISSING_NAMED - len(ids)]]
    return len(rows)


def _one_a_key(feed: str, whole: Sequence[SourceRow], missing: Sequence[SourceRow]) -> list[SourceRow]:
    """Of rows that share an id the one that was missing, so that the others are not taken for it."""
    wanted = {delivery_id(feed, row): row.position for row in missing}
    chosen: dict[str, SourceRow] = {}
    for row in whole:
        known = delivery_id(feed, row)
        if known not in chosen or row.position == wanted.get(known):
            chosen[known] = row
    return list(chosen.values())


def _superseded(feed: Feed, keys: Mapping[str, str], present: Mapping[str, SourceRow | None]) -> int:
    """How many of the ids are of a change that is no longer the row's last."""
    if feed.capture != "changes":
        return 0
    rows = ((known, present.get(key)) for known, key in keys.items())
    return sum(row is not None and delivery_id(feed.name, row) != known for known, row in rows)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
