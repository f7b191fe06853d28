"""As `questions`, of operations in bulk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from app.core.batches import Lease
from app.core.operations import (
    MOVED,
    ClosingSum,
    Happened,
    Operation,
    OperationKind,
    OperationState,
    Pace,
    Paused,
    Phase,
    Stop,
)
from app.core.operations import (
    Ask as Asked,
)
from app.core.states import State
from app.ledger import Ledger
from app.ledger.operation_documents import document_of
from app.ledger.operations import InSet
from tests.support.busy_ledger import open_ones
from tests.support.ledger import FEED, LEASE, NOW
from tests.support.questions import LATER, Ask, ids

SET = 300
SAID = Happened(NOW, "me", "done")
LEASED = Lease("token", LATER, "w1")
NAMED = ids(State.DEAD, *range(100))
Change = Callable[[Ledger, Operation], Awaitable[Any]]


async def _made(ledger: Ledger, state: OperationState, lease: Lease | None) -> Operation:
    """An operation whose set is written down."""
    operation = Operation(
        f"operation-{uuid4().hex}", OperationKind.REPLAY, f"feed-{uuid4().hex}", {"states": ["dead"]}, "hash",
        Pace("1/second"), "me", None, NOW, state, "walk", SET, reached="dead|orders:00200",
    )  # fmt: skip
    lease_document = {"token": lease.token, "until": lease.until, "worker": "w1"} if lease else None
    stored = document_of(operation) | {"walk": "walk", "lease": lease_document}
    database = ledger._database
    await database["operations"].insert_one(stored)
    await database["operation_deliveries"].insert_many(
        [
            {"_id": f"{operation.id}.walk|dead|orders:{number:05}", "outcome": MOVED}
            for number in range(SET)
        ]
    )
    return replace(operation, lease=lease)


def on(
    state: OperationState, change: Change, *, within: int = 0, lease: Lease | None = LEASED
) -> list[Ask]:
    """What is done with an operation in that state."""

    async def ask(ledger: Ledger) -> None:
        await change(ledger, await _made(ledger, state, lease))

    return [Ask(ask, within=within)]


def of_operations() -> dict[str, list[Ask]]:
    """A set is read by its ids, some at a time; sums read it whole, once."""
    running, paused, row = (
        OperationState.RUNNING,
        OperationState.PAUSED,
        InSet("x", State.DEAD, None),
    )
    closing, ended = ClosingSum(1, {}, 1, 0, {}), OperationState.DONE
    since_dead = open_ones(State.QUEUED) + open_ones(State.RETRYING)
    return {
        "operations.get": [Ask(lambda at: at.operations.get("operation"))],
        "operations.page": [
            Ask(lambda at: at.operations.page(10)),
            Ask(lambda at: at.operations.page(10, (NOW, "x"), states=[running], feed=FEED)),
        ],
        "operations.under_way": [Ask(lambda at: at.operations.under_way(FEED))],
        "operations.claim": [Ask(lambda at: at.operations.claim("w", "token", NOW, LEASE))],
        "operations.renew": on(running, lambda at, one: at.operations.renew(one, LATER)),
        "operations.release": on(running, lambda at, one: at.operations.release(one)),
        "operations.size_of": on(
            running, lambda at, one: at.operations.size_of(one, "walk"), within=SET
        ),
        "operations.freeze": on(
            OperationState.FREEZING, lambda at, one: at.operations.freeze(one, "walk", 1, SAID)
        ),
        "operations.in_order": on(
            running, lambda at, one: at.operations.in_order(one, 100, "dead|orders:00050")
        ),
        "operations.tell": on(running, lambda at, one: at.operations.tell(one, {MOVED: [row]})),
        "operations.record": on(
            running, lambda at, one: at.operations.record(one, row, {MOVED: 1}, NOW, LATER)
        ),
        "operations.enter": on(running, lambda at, one: at.operations.enter(one, Phase.REST, SAID)),
        "operations.pause": on(
            running, lambda at, one: at.operations.pause(one, Paused(Stop.OPERATOR, "why"), SAID)
        ),
        "operations.end": on(running, lambda at, one: at.operations.end(one, ended, closing, SAID)),
        "operations.start": on(
            paused, lambda at, one: at.operations.start(one, Phase.REST, SAID), lease=None
        ),
        "operations.begin_anew": on(
            paused, lambda at, one: at.operations.begin_anew(one, Phase.REST, SAID), lease=None
        ),
        "operations.ask": on(running, lambda at, one: at.operations.ask(one, Asked.PAUSE, SAID)),
        "operations.last_moved": on(running, lambda at, one: at.operations.last_moved(one, 100)),
        "operations.moved": on(running, lambda at, one: at.operations.moved(one, 100, "")),
        "operations.outcomes": on(running, lambda at, one: at.operations.outcomes(one), within=SET),
        "operations.unstarted": [Ask(lambda at: at.operations.unstarted(NOW, 10))],
        "operations.old": [Ask(lambda at: at.operations.old(NOW, 10))],
        "operations.delete_some": on(ended, lambda at, one: at.operations.delete_some(one)),
        "operation_marks.look": [
            Ask(lambda at: at.operation_marks.look(OperationKind.REPLAY, "x/1", NAMED))
        ],
        "operation_marks.states": [Ask(lambda at: at.operation_marks.states(NAMED))],
        "operation_marks.touched": [
            Ask(
                lambda at: at.operation_marks.touched(OperationKind.REPLAY, "x", LATER, 20),
                within=since_dead,
            ),
            Ask(
                lambda at: at.operation_marks.touched(OperationKind.ACKNOWLEDGE, "x", LATER, 20),
                within=0,
            ),
        ],
    }
