"""One delivery replayed, cancelled or acknowledged through the project's operations, on record before
it is done and with what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from app.console.audit.service import Audit
from app.console.deliveries.shown import Action
from app.console.errors import Conflict
from app.console.security.roles import Principal
from app.core.errors import LedgerUnavailable, RowrelayError
from app.core.keys import has_identity
from app.core.states import OPEN_STATES, State
from app.feeds.feed import Rate
from app.ledger.client import Document
from app.ledger.selection import Selection
from app.operations.account import Account
from app.operations.acknowledge import Acknowledging
from app.operations.by import By
from app.operations.cancel import Cancelling
from app.runtime.operator import Operator

LONGEST_SECONDS = 20.0
"""How long somebody waits for it. What is not done then has not begun, or goes on by itself."""
RATE = Rate(count=50, per_seconds=1)
REPLAYABLE = (State.DEAD, State.CANCELLED, State.DELIVERED)

DONE = {
    Action.REPLAY: "delivery.replayed",
    Action.CANCEL: "delivery.cancelled",
    Action.ACKNOWLEDGE: "delivery.acknowledged",
    Action.WITHDRAW: "delivery.withdrawn",
}
"""Action → how the audit log calls it once it is done."""


def obstacles(document: Document, feeds: Container[str]) -> dict[Action, str | None]:
    """Each action → why it cannot be done with a stored delivery now; `None`: it can."""
    state, settled = State(document["state"]), bool(document.get("acknowledged"))
    no_dead_letter = None if state is State.DEAD else f"it is {state}, and no dead letter"
    return {
        Action.REPLAY: _not_replayable(document, state, feeds),
        Action.CANCEL: None if state in OPEN_STATES else f"it is {state}: nothing is sent any more",
        Action.ACKNOWLEDGE: no_dead_letter or ("it is acknowledged already" if settled else None),
        Action.WITHDRAW: no_dead_letter or (None if settled else "it is not acknowledged"),
    }


def _not_replayable(document: Document, state: State, feeds: Container[str]) -> str | None:
    if state is State.SKIPPED:
        return "the feed's filter skipped its row"
    if state not in REPLAYABLE:
        return f"it is {state}, and will be sent anyway"
    if state is State.DEAD and document.get("acknowledged"):
        return "it is acknowledged: withdraw that first"
    return _unsendable(document, feeds)


def _unsendable(document: Document, feeds: Container[str]) -> str | None:
    if document["feed"] not in feeds:
        return f"feed {document['feed']} is not in feeds.toml"
    payload = document.get("payload")
    if payload is None:
        return "retention has dropped its payload"
    if payload == "" and not has_identity(document["key"]):
        return "its row could not be read, and has no key to find it by"
    return None


class Acting:
    """Acts on one delivery."""

    def __init__(self, operator: Operator, audit: Audit) -> None:
        self._operator = operator
        self._audit = audit

    async def act(
        self, actor: Principal, document: Document, action: Action, why: str, *, again: bool
    ) -> State:
        """Do it; returns the state that the delivery is in then. Raises `Conflict` where it cannot be
        done, `LedgerUnavailable` where it takes too long, and the ledger's errors."""
        known, before = document["_id"], _facts(document)
        if why_not := obstacles(document, self._operator.feeds)[action]:
            raise Conflict(f"{action}: {why_not}")
        state = State(document["state"])
        if action is Action.REPLAY and state is State.DELIVERED and not again:
            raise Conflict("replay: the partner has it; say that it shall get it again")
        await self._audit.note(actor, f"delivery.{action}.asked", known, why=why, before=before)
        try:
            account = await self._done(action, document, By(actor.name, why))
        except RowrelayError as error:
            told = {"failed": str(error)}
            await self._audit.note(actor, f"delivery.{action}.failed", known, why=why, after=told)
            raise
        now = await self._operator.ledger.deliveries.get(known) or document
        left = {} if account.moved else {"left": dict(account.skipped)}
        name = DONE[action] if account.moved else f"delivery.{action}.left"
        await self._audit.note(actor, name, known, why=why, before=before, after=_facts(now) | left)
        if not account.moved:
            raise Conflict(f"{action}: it stays as it is: {', '.join(account.skipped)}")
        return State(now["state"])

    async def _done(self, action: Action, document: Document, by: By) -> Account:
        selection = Selection((State(document["state"]),), ids=(document["_id"],))
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                return await self._operation(action, selection, by)
        except TimeoutError as error:
            raise LedgerUnavailable(
                f"{action}: not done within {LONGEST_SECONDS:g} s; look at the delivery, then try again"
            ) from error

    async def _operation(self, action: Action, selection: Selection, by: By) -> Account:
        ledger = self._operator.ledger
        match action:
            case Action.REPLAY:
                return await self._operator.replaying.replay(selection, RATE, by)
            case Action.CANCEL:
                return await Cancelling(ledger).cancel(selection, by)
            case Action.ACKNOWLEDGE:
                return await Acknowledging(ledger).acknowledge(selection, by)
            case Action.WITHDRAW:
                return await Acknowledging(ledger, undo=True).acknowledge(selection, by)


def _facts(document: Document) -> dict[str, object]:
    """What the audit log says of a delivery: nothing of its row."""
    return {
        "state": document["state"],
        "attempts": document["attempts"],
        "replays": document.get("replay_count", 0),
        "acknowledged": bool(document.get("acknowledged")),
    }
