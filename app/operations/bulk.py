"""Operations in bulk, as an operator sees them: chosen and previewed, frozen, started, paused,
resumed, abandoned. What is moved, a runner moves: see `app/operations/bulk_run.py`.

An operation is of one feed: a canary tells of one partner, and a rate is one partner's. One a feed
is under way at a time: starting a second is refused until the first has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from app.core.clock import Clock, utc_now
from app.core.errors import LedgerUnavailable, OperationRefused
from app.core.operations import (
    Ask,
    ClosingSum,
    Happened,
    Operation,
    OperationKind,
    OperationState,
    Phase,
    Stop,
)
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.client import Document, within
from app.ledger.listing import Count
from app.ledger.operation_documents import chosen_of
from app.ledger.operations import EXPIRES, KEPT
from app.ledger.selection import Selection
from app.operations.acknowledge import Acknowledging
from app.operations.bulk_request import TAKES, NewOperation
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import Replaying
from app.operations.selection import SAMPLE, Previewing, meant, narrows

IDS = 1000
"""Deliveries that a selection names, at most."""
COUNTED_WHOLE = 10_000
"""Up to so many, a preview reads each and says what would be skipped, and why."""
LOOK_SECONDS = 5.0
"""What looking at what is selected may take in a preview."""
DELETIONS = 200
"""Steps of one tidying, of `DELETED_AT_ONCE` each."""

_ONE_FEED = "an operation is of one feed, whose partner its canary and rate are about: name one"


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """What an operation would be about; nothing has moved, and nothing is written."""

    feed: str
    selection: Selection
    """With the ids that are meant."""
    count: Count | None
    """`None`: counting took too long."""
    skipped: Mapping[str, int] | None
    """Why some would stay as they are → how many; `None`: too many to look at each."""
    sample: Sequence[Document]
    """A few, without their payloads; none where finding them took too long."""


class Bulk:
    """What operators do with operations."""

    def __init__(
        self,
        ledger: Ledger,
        feeds: Callable[[], Mapping[str, Feed]],
        replaying: Callable[[], Replaying],
        now: Clock = utc_now,
    ) -> None:
        """`feeds`: those that are configured; `replaying`: gives what replays."""
        self._ledger = ledger
        self._feeds = feeds
        self._replaying = replaying
        self._now = now

    # --- chosen, previewed, frozen

    async def preview(self, kind: OperationKind, selection: Selection) -> BulkPreview:
        """Count what is selected, and show a few. Raises `OperationRefused` for a selection that is
        empty or does not fit the kind, `UnknownFeed`, `AmbiguousKey`, and the ledger's errors."""
        feed, selection = await self._meant(kind, selection)
        count = await self._ledger.listing.count(selection)
        try:
            with within(LOOK_SECONDS):
                skipped = await self._skipped(kind, selection, count)
                sample = await self._ledger.selections.sample(selection, SAMPLE)
        except LedgerUnavailable as error:
            if not error.too_slow:
                raise
            skipped, sample = None, []
        return BulkPreview(feed, selection, count, skipped, sample)

    async def _skipped(
        self, kind: OperationKind, selection: Selection, count: Count | None
    ) -> Mapping[str, int] | None:
        if count is None or not count.exact or count.number > COUNTED_WHOLE:
            return None
        previewed = await self._previewing(kind).preview(selection)
        return {why: number for why, number in previewed.account.skipped.items() if number}

    async def create(self, new: NewOperation, by: By) -> Operation:
        """Make it; a runner then writes its set down. The same one asked for again, by its id, is the
        one that is there. Raises as `preview` does, and `OperationRefused` for a pace that cannot be
        taken, for an id that means another operation, and where nothing is selected."""
        new.check()
        there = await self._ledger.operations.get(new.id)
        if there is None:
            there = await self._add(new, by)
        if there.request != new.request:
            raise OperationRefused(f"{new.id} is another operation: take a new id")
        return there

    async def _add(self, new: NewOperation, by: By) -> Operation:
        feed, selection = await self._meant(new.kind, new.selection)
        if (count := await self._ledger.listing.count(selection)) and not count.number:
            raise OperationRefused("nothing is selected: nothing would move", "filter")
        now = self._now()
        operation = Operation(
            id=new.id,
            kind=new.kind,
            feed=feed,
            chosen=chosen_of(selection),
            request=new.request,
            pace=new.pace,
            by=by.who,
            why=by.why,
            created_at=now,
            state=OperationState.FREEZING,
            history=(Happened(now, by.who, "created", by.why),),
        )
        await self._ledger.operations.add(operation)
        return await self.get(new.id)

    async def get(self, operation_id: str) -> Operation:
        """One operation. Raises `OperationRefused` for an id that is not known."""
        found = await self._ledger.operations.get(operation_id)
        if found is None:
            raise OperationRefused(f"no operation has the id {operation_id[:64]}", "id")
        return found

    async def _meant(self, kind: OperationKind, selection: Selection) -> tuple[str, Selection]:
        """The feed, and the selection with what is meant by it."""
        states = selection.states or TAKES[kind][: 1 if kind is OperationKind.REPLAY else None]
        if wrong := [state.value for state in states if state not in TAKES[kind]]:
            takes = ", ".join(TAKES[kind])
            raise OperationRefused(f"a {kind} takes {takes}; found {wrong[0]}", "states")
        if not narrows(selection):
            raise OperationRefused("nothing is selected: name a feed at least", "filter")
        if len(selection.ids) > IDS:
            raise OperationRefused(f"at most {IDS} deliveries by name", "ids")
        if len(set(selection.feeds or ())) > 1:
            raise OperationRefused(_ONE_FEED, "feed")
        selection = await meant(
            self._ledger, self._feeds(), replace(selection, states=tuple(states))
        )
        feed = await self._feed_of(selection)
        if feed not in self._feeds():
            raise OperationRefused(f"feed {feed} is not configured", "feed")
        return feed, replace(selection, feeds=(feed,))

    async def _feed_of(self, selection: Selection) -> str:
        feeds = set(selection.feeds or ())
        if selection.ids:
            named = replace(selection, feeds=selection.feeds)
            feeds = {one["feed"] for one in await self._ledger.selections.sample(named, IDS)}
            if not feeds:
                raise OperationRefused("none of these is in a state that it can be used on", "ids")
        if len(feeds) != 1:
            raise OperationRefused(_ONE_FEED, "feed")
        return feeds.pop()

    def _previewing(self, kind: OperationKind) -> Previewing:
        match kind:
            case OperationKind.REPLAY:
                return self._replaying()
            case OperationKind.CANCEL:
                return Cancelling(self._ledger, self._now)
            case OperationKind.ACKNOWLEDGE:
                return Acknowledging(self._ledger, now=self._now)

    # --- moved on

    async def start(self, operation_id: str, by: By, version: int | None = None) -> Operation:
        """Begin to act on the frozen set. Raises `OperationRefused` where it is not frozen, was changed
        since that version, or another operation of its feed is under way."""
        operation = await self._of(operation_id, version, "started", OperationState.FROZEN)
        await self._free(operation)
        moved = self._ledger.operations.start(
            operation, _first_phase(operation), self._happened(by, "started")
        )
        return await self._after(operation, moved)

    async def resume(self, operation_id: str, by: By, version: int | None = None) -> Operation:
        """Go on. One that failures stopped begins anew: what it moved and is dead again by now is taken
        up again, canary first. Raises as `start` does."""
        operation = await self._of(operation_id, version, "resumed", OperationState.PAUSED)
        operations, happened = self._ledger.operations, self._happened(by, "resumed")
        if operation.paused and operation.paused.by is Stop.FAILURES:
            moved = operations.begin_anew(operation, _first_phase(operation), happened)
        else:
            moved = operations.start(operation, operation.phase, happened)
        return await self._after(operation, moved)

    async def pause(self, operation_id: str, by: By) -> Operation:
        """Have it stand still, at the end of the chunk under way. Raises `OperationRefused` where it
        does not run."""
        operation = await self._of(operation_id, None, "paused", OperationState.RUNNING)
        moved = self._ledger.operations.ask(operation, Ask.PAUSE, self._happened(by, "pause asked"))
        return await self._after(operation, moved, retry=lambda: self.pause(operation_id, by))

    async def abandon(self, operation_id: str, by: By) -> Operation:
        """Have it end, at the end of the chunk under way, with what it has moved. Raises
        `OperationRefused` where it has ended."""
        operation = await self.get(operation_id)
        if operation.ended:
            raise OperationRefused(f"it is {operation.state}: there is nothing to abandon")
        operations = self._ledger.operations
        if operation.state in (OperationState.FREEZING, OperationState.FROZEN):
            return await operations.end(
                operation, OperationState.ABANDONED, _nothing_done(operation), self._happened(by, "abandoned"),
            )  # fmt: skip
        moved = operations.ask(operation, Ask.ABANDON, self._happened(by, "abandon asked"))
        return await self._after(operation, moved, retry=lambda: self.abandon(operation_id, by))

    async def tidy(self) -> None:
        """Abandon what nobody started, and delete what ended long ago, some at a time. Raises the
        ledger's errors."""
        now = self._now()
        for operation in await self._ledger.operations.unstarted(now - EXPIRES, 100):
            why = f"not started within {EXPIRES // timedelta(days=1)} days"
            happened = Happened(now, "rowrelay", "abandoned", why)
            await self._ledger.operations.end(
                operation, OperationState.ABANDONED, _nothing_done(operation), happened
            )
        old = await self._ledger.operations.old(now - KEPT, DELETIONS)
        left = DELETIONS
        for operation in old:
            while left > 0:
                left -= 1
                if await self._ledger.operations.delete_some(operation):
                    break

    async def _of(
        self, operation_id: str, version: int | None, done: str, state: OperationState
    ) -> Operation:
        operation = await self.get(operation_id)
        if version is not None and operation.version != version:
            raise OperationRefused("it was changed meanwhile: look at it again, then repeat that")
        if operation.state is not state:
            raise OperationRefused(f"it is {operation.state}: only what is {state} can be {done}")
        return operation

    async def _free(self, operation: Operation) -> None:
        other = await self._ledger.operations.under_way(operation.feed)
        if other and other.id != operation.id:
            raise OperationRefused(
                f"operation {other.id} of feed {operation.feed} is {other.state}, and there is one at a time: "
                "wait for it, or abandon it"
            )

    async def _after(
        self,
        operation: Operation,
        moved: Awaitable[bool],
        retry: Callable[[], Awaitable[Operation]] | None = None,
    ) -> Operation:
        """The operation as it is then. Where it moved on meanwhile, `retry`, if that makes sense."""
        if await moved:
            return await self.get(operation.id)
        await self._free(operation)
        if retry and (await self.get(operation.id)).version != operation.version:
            return await retry()
        raise OperationRefused("it was changed meanwhile: look at it again, then repeat that")

    def _happened(self, by: By, what: str) -> Happened:
        return Happened(self._now(), by.who, what, by.why)


def _first_phase(operation: Operation) -> Phase:
    return Phase.CANARY if operation.pace.canary else Phase.REST


def _nothing_done(operation: Operation) -> ClosingSum:
    return ClosingSum(operation.size, {}, operation.size, 0, {})
