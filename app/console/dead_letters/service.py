"""Dead letters in groups, each with the filter that means it."""

from __future__ import annotations

from app.console.dead_letters.schemas import GroupsAsked, GroupShown, GroupsShown
from app.console.deliveries.masking import masks_personal
from app.console.deliveries.ref import ref_of
from app.console.deliveries.schemas import NO_STATUS, DeliveryFilter
from app.console.security.roles import Permission, Principal
from app.core.clock import Clock, utc_now
from app.core.states import State
from app.reads.dead_letters import Group, read_groups
from app.reads.lookup import require_feeds
from app.runtime.operator import Operator


class DeadLetters:
    """Groups dead letters."""

    def __init__(self, operator: Operator, now: Clock = utc_now) -> None:
        self._operator = operator
        self._now = now

    async def groups(self, actor: Principal, asked: GroupsAsked) -> GroupsShown:
        """Those that nobody has acknowledged. Raises `Forbidden`, `UnknownFeed`, and the ledger's
        errors."""
        actor.require(Permission.LOOK)
        ledger = self._operator.ledger
        await require_feeds(ledger, self._operator.feeds, asked.feed)
        found = await read_groups(ledger, asked.feed or None, asked.since, asked.until)
        whole = actor.may(Permission.REVEAL)
        return GroupsShown(
            items=[_shown(group, asked, whole=whole) for group in found.groups],
            looked_at=found.looked_at,
            complete=found.complete,
        )


def filter_of(group: Group, asked: GroupsAsked) -> DeliveryFilter:
    """What means the group's dead letters, and no other."""
    return DeliveryFilter(
        feed=[group.feed],
        state=[State.DEAD],
        status=group.status if group.status is not None else NO_STATUS,
        reason_kind=group.kind,
        since=asked.since,
        until=asked.until,
    )


def _shown(group: Group, asked: GroupsAsked, *, whole: bool) -> GroupShown:
    key = group.example.removeprefix(f"{group.feed}:")
    mask = str if whole else masks_personal(key)
    return GroupShown(
        feed=group.feed,
        status=group.status,
        reason_kind=group.kind,
        count=group.count,
        first=group.first,
        last=group.last,
        example_ref=ref_of(group.example),
        example_id=group.example,
        example_reason=mask(group.example_reason),
        filter=filter_of(group, asked).query(),
    )
