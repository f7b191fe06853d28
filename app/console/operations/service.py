"""Operations in bulk: chosen, previewed, frozen, started, paused, resumed, abandoned, and looked at."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from app.console.audit.service import Audit
from app.console.deliveries.masking import masks_personal
from app.console.deliveries.service import Deliveries
from app.console.deliveries.shown import DeliveryLine, fields_of
from app.console.errors import Conflict, ConsoleError, Invalid, NotFound
from app.console.operations.schemas import (
    Chosen,
    Counted,
    CountShown,
    DifferenceShown,
    NewOperationAsked,
    OperationsAsked,
    PreviewShown,
    SampleShown,
    Verb,
)
from app.console.schemas import cursor_of, cut, moment_cursor, read_cursor, read_moment_cursor
from app.console.security.roles import Permission, Principal
from app.core.clock import Clock, utc_now
from app.core.errors import AmbiguousKey, LeaseLost, OperationRefused, UnknownFeed
from app.core.operations import Operation, OperationKind
from app.ledger.client import Document
from app.ledger.operations import InSet
from app.ledger.selection import Selection
from app.operations.bulk import BulkPreview
from app.operations.bulk_request import TAKES, NewOperation
from app.operations.by import By
from app.reads.difference import RequestDifference, request_difference
from app.runtime.operator import Operator

LOOKED_AT = 1000
"""Deliveries whose states a page tells."""
DONE = {"start": "started", "pause": "paused", "resume": "resumed", "abandon": "abandoned"}


class Operations:
    """What the console does with operations in bulk."""

    def __init__(
        self, operator: Operator, deliveries: Deliveries, audit: Audit, now: Clock = utc_now
    ) -> None:
        self._operator = operator
        self._deliveries = deliveries
        self._audit = audit
        self._now = now

    async def preview(self, actor: Principal, chosen: Chosen) -> PreviewShown:
        """What an operation would be about. Raises `Forbidden`, `Invalid`, and the errors of the ledger
        and the source."""
        actor.require(Permission.OPERATE)
        with _refusals():
            selection = await self._selection(actor, chosen)
            found = await self._operator.bulk.preview(chosen.kind, selection)
        skipped = None
        if found.skipped is not None:
            skipped = [Counted(what=why, count=count) for why, count in found.skipped.items()]
        return PreviewShown(
            kind=chosen.kind,
            feed=found.feed,
            states=list(found.selection.states),
            count=CountShown(number=found.count.number, exact=found.count.exact)
            if found.count
            else None,
            skipped=skipped,
            items=[_line(document) for document in found.sample],
            sample=await self._sample(actor, chosen.kind, found),
        )

    async def create(self, actor: Principal, new: NewOperationAsked) -> Operation:
        """Make it; its set is then frozen, and waits to be started. The same one made again is the one
        that is there. Raises `Forbidden`, `Invalid`, `Conflict` and the ledger's errors."""
        operation_id = new.id or secrets.token_hex(12)
        asked = new.model_dump(mode="json", exclude_defaults=True, exclude={"why"})
        await self._ask(actor, "create", operation_id, new.why, asked)
        with _refusals():
            selection = await self._selection(actor, new)
            made = NewOperation(operation_id, new.kind, selection, new.pace)
            operation = await self._operator.bulk.create(made, By(actor.name, new.why))
        told = {"kind": operation.kind, "feed": operation.feed, "chosen": operation.chosen}
        await self._audit.note(actor, "operation.created", operation.id, why=new.why, after=told)
        return operation

    async def page(
        self, actor: Principal, asked: OperationsAsked
    ) -> tuple[Sequence[Operation], str | None]:
        """A page, the newest first, and the cursor of the next. Raises `Forbidden`, `Invalid`, and the
        ledger's errors."""
        actor.require(Permission.LOOK)
        found = await self._operator.ledger.operations.page(
            asked.limit + 1, read_moment_cursor(asked.after), states=asked.state, feed=asked.feed
        )
        return cut(found, asked.limit, lambda last: moment_cursor((last.created_at, last.id)))

    async def get(self, actor: Principal, operation_id: str) -> Operation:
        """One operation. Raises `Forbidden`, `NotFound` and the ledger's errors."""
        actor.require(Permission.LOOK)
        found = await self._operator.ledger.operations.get(operation_id)
        if found is None:
            raise NotFound(
                f"no operation has the id {operation_id[:64]}: it ended long ago, or never was"
            )
        return found

    async def deliveries(
        self, actor: Principal, operation_id: str, limit: int, after: str | None
    ) -> tuple[Sequence[InSet], str | None]:
        """A page of its set, in the order in which it is gone through. Raises as `get` does, and
        `Invalid`."""
        operation = await self.get(actor, operation_id)
        fields = read_cursor(after, str)
        place = fields[0] if fields else ""
        found = await self._operator.ledger.operations.in_order(operation, limit + 1, place)
        return cut(found, limit, lambda last: cursor_of(last.place))

    async def states(self, actor: Principal, operation: Operation) -> Mapping[str, int]:
        """Where those stand now that it moved last, at most `LOOKED_AT`: state → how many. Raises
        `Forbidden` and the ledger's errors."""
        actor.require(Permission.LOOK)
        if not operation.moved:
            return {}
        ledger = self._operator.ledger
        moved = await ledger.operations.last_moved(operation, LOOKED_AT)
        return await ledger.operation_marks.states(moved)

    async def move(
        self,
        actor: Principal,
        operation_id: str,
        verb: Verb,
        why: str,
        version: int | None = None,
    ) -> Operation:
        """Start, pause, resume or abandon it; on record before and after. Raises `Forbidden`,
        `NotFound`, `Conflict` where it cannot be, and the ledger's errors."""
        await self._ask(actor, verb, operation_id, why)
        before = await self.get(actor, operation_id)
        with _refusals():
            operation = await self._moved(verb, operation_id, By(actor.name, why), version)
        states = {"before": before.state, "after": operation.state}
        await self._audit.note(actor, f"operation.{DONE[verb]}", operation_id, why=why, **states)
        return operation

    def _moved(
        self, verb: Verb, operation_id: str, by: By, version: int | None
    ) -> Awaitable[Operation]:
        bulk = self._operator.bulk
        match verb:
            case "start":
                return bulk.start(operation_id, by, version)
            case "resume":
                return bulk.resume(operation_id, by, version)
            case "pause":
                return bulk.pause(operation_id, by)
            case "abandon":
                return bulk.abandon(operation_id, by)

    async def _ask(
        self, actor: Principal, verb: str, operation_id: str, why: str, after: object = None
    ) -> None:
        """Check the permission, and have it on record that it was asked for, or refused."""
        await self._audit.require(
            actor, Permission.OPERATE, f"operation.{verb}", operation_id, why=why
        )
        await self._audit.note(actor, f"operation.{verb}.asked", operation_id, why=why, after=after)

    async def _selection(self, actor: Principal, chosen: Chosen) -> Selection:
        """What the filter selects. Raises `Invalid` for one that is empty."""
        asked = chosen.filter
        if not asked.narrows:
            raise Invalid("nothing is selected: name a feed at least", "filter")
        if asked.q and asked.ref:
            raise Invalid("search, or name deliveries: not both", "filter.q")
        selection = await self._deliveries.meant(actor, asked)
        if not asked.state:
            states = TAKES[chosen.kind]
            selection = replace(
                selection, states=states[:1] if chosen.kind is OperationKind.REPLAY else states
            )
        return selection

    async def _sample(
        self, actor: Principal, kind: OperationKind, found: BulkPreview
    ) -> SampleShown | None:
        """The first of the sample, looked at closely."""
        if kind is not OperationKind.REPLAY or not found.sample:
            return None
        first = found.sample[0]
        document = await self._operator.ledger.deliveries.get(first["_id"]) or first
        request, untold = None, None
        try:
            request = await self._deliveries.request_of(actor, document)
        except ConsoleError as error:
            untold = str(error)
        compared = await self._difference(document)
        return SampleShown(
            delivery=_line(first),
            request=request,
            request_untold=untold,
            differences=[
                DifferenceShown(part=one.part, how=one.how) for one in compared.differences
            ],
            differences_untold=compared.untold,
        )

    async def _difference(self, document: Document) -> RequestDifference:
        feed = self._operator.feeds.get(document["feed"])
        if feed is None:
            return RequestDifference(untold="its feed is not configured")
        operator = self._operator
        return await request_difference(
            feed, operator.ledger, operator.source, document, self._now()
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """What operations refuse, as HTTP says it."""
    try:
        yield
    except OperationRefused as error:
        raise (Invalid(str(error), error.field) if error.field else Conflict(str(error))) from error
    except (UnknownFeed, AmbiguousKey) as error:
        raise Invalid(str(error), "filter") from error
    except LeaseLost as error:
        raise Conflict("it was changed meanwhile: look at it again, then repeat that") from error


def _line(document: Document) -> DeliveryLine:
    return DeliveryLine(**fields_of(document, masks_personal(document["key"])))
