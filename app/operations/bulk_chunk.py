"""A chunk of a frozen set: what of it is still to be acted on, and what became of each.

Nothing is moved but by the moves that the command line uses, each told the ids of the chunk, the state
that they were in, and the moment before which they had come to it. What a move did is read back from
the deliveries themselves, by the operation's mark: so a chunk that is done again, since a runner died
in the middle of it, tells the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.core.clock import Clock
from app.core.operations import MOVED, Operation, OperationKind
from app.core.states import OPEN_STATES, State
from app.ledger import Ledger
from app.ledger.operation_marks import Marked
from app.ledger.operations import InSet
from app.ledger.selection import Selection
from app.operations.account import CHANGED, Account, Tell
from app.operations.acknowledge import ACKNOWLEDGED, Acknowledging
from app.operations.bulk_request import rate_of
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.operations.replay import BEING_SENT, NOT_NOW, Replaying, Room

GONE = "not in the ledger"


class Obstacle(Exception):
    """It cannot go on until somebody acts; nothing of the chunk under way has moved. `str`: why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of a set, one behind the other, of which what is to be moved is of one kind."""

    rows: Sequence[InSet]
    to_move: Sequence[str]
    """Ids."""
    states: tuple[State, ...]
    """In which they are moved."""
    until: datetime
    """They had come there before then."""
    begun: bool
    """Some of it was moved in this round."""


def chunk_of_rows(
    operation: Operation, rows: Sequence[InSet], looked: Mapping[str, Marked], most: int
) -> Chunk:
    """The first of these that can be moved together, at most that many. `looked`: where they stand."""
    taken: list[InSet] = []
    to_move: list[str] = []
    kind: tuple[bool, State] | None = None
    for row in rows:
        found = looked.get(row.id)
        needed = _kind_of(operation, row, found)
        if needed and (len(to_move) == most or (kind and needed != kind)):
            break
        if needed:
            kind = needed
            to_move.append(row.id)
        taken.append(row)
    again, state = kind or (False, State.DEAD)
    states = tuple(OPEN_STATES) if operation.kind is OperationKind.CANCEL else (state,)
    begun = any(row.id in looked and looked[row.id].this_round for row in taken)
    until = (operation.round_at or operation.created_at) if again else operation.created_at
    return Chunk(taken, to_move, states, until, begun)


def _kind_of(operation: Operation, row: InSet, found: Marked | None) -> tuple[bool, State] | None:
    """Whether it is moved once more, and from which state; `None`: it is left as it is."""
    if found is None:
        return None
    if operation.kind is OperationKind.CANCEL:
        return (False, State.QUEUED) if found.state in OPEN_STATES and not found.ours else None
    if found.ours:  # a round before: only what is dead again
        replays = operation.kind is OperationKind.REPLAY
        again = replays and found.state is State.DEAD and not found.this_round
        return (True, State.DEAD) if again else None
    return (False, row.state) if found.state is row.state else None


class Acting:
    """Acts on chunks for one operation."""

    def __init__(self, ledger: Ledger, replaying: Callable[[], Replaying], now: Clock) -> None:
        self._ledger = ledger
        self._replaying = replaying
        self._now = now

    async def look(self, operation: Operation, rows: Sequence[InSet]) -> dict[str, Marked]:
        """Where these stand."""
        ids = [row.id for row in rows]
        return await self._ledger.operation_marks.look(operation.kind, operation.mark, ids)

    async def act(
        self, operation: Operation, chunk: Chunk, room: Room, tell: Tell
    ) -> tuple[dict[str, list[InSet]], list[InSet]]:
        """Move what is to be moved. Returns outcome → deliveries of the chunk, and those that were
        moved in this round; raises `Obstacle`, and the ledger's errors."""
        if chunk.to_move:
            account = await self._move(operation, chunk, room, tell)
            if why := next((why for why in NOT_NOW if account.skipped[why]), None):
                raise Obstacle(f"{why}: {operation.feed}")
        looked = await self.look(operation, chunk.rows)
        outcomes: defaultdict[str, list[InSet]] = defaultdict(list)
        for row in chunk.rows:
            outcomes[_outcome(operation.kind, row, looked.get(row.id))].append(row)
        anew = [row for row in chunk.rows if row.id in looked and looked[row.id].this_round]
        return outcomes, anew

    async def _move(self, operation: Operation, chunk: Chunk, room: Room, tell: Tell) -> Account:
        selection = Selection(
            chunk.states, ids=tuple(chunk.to_move), feeds=(operation.feed,), until=chunk.until
        )
        by = By(operation.by, operation.why, operation.mark)
        match operation.kind:
            case OperationKind.REPLAY:
                rate = rate_of(operation.pace)
                return await self._replaying().replay(selection, rate, by, tell, room)
            case OperationKind.CANCEL:
                return await Cancelling(self._ledger, self._now).cancel(selection, by, tell)
            case OperationKind.ACKNOWLEDGE:
                acknowledging = Acknowledging(self._ledger, now=self._now)
                return await acknowledging.acknowledge(selection, by, tell)


def _outcome(kind: OperationKind, row: InSet, found: Marked | None) -> str:
    """What became of it: `moved`, or why it was left as it was."""
    if found is None:
        return GONE
    if found.ours:
        return MOVED
    as_it_was = found.state is row.state
    if kind is OperationKind.CANCEL:
        as_it_was = found.state in OPEN_STATES
    if not as_it_was:
        return f"{found.state.value} by then"
    if found.acknowledged:
        return ACKNOWLEDGED
    if kind is OperationKind.REPLAY and not found.has_payload:
        return "no payload"
    return BEING_SENT if found.in_batch and kind is OperationKind.REPLAY else CHANGED
