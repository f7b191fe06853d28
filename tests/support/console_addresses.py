"""Where every page of the console is, over the scene."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator

from fastapi.routing import APIRoute

from app.console.app import PAGE_ROUTERS
from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from app.console.store.tables import Origin
from app.core.clock import utc_now
from app.core.operations import OperationKind, OperationState, Pace
from app.core.period import Kind, period_of, previous
from app.ledger.selection import Selection
from app.operations.bulk_request import NewOperation
from app.operations.by import By
from tests.support.browsing import Browsing
from tests.support.console_scene import INVOICE, ZONE
from tests.support.wait import until

Find = Callable[[Browsing], Awaitable[str]]

WITHOUT_LOGIN = frozenset({"/login", "/welcome/not-a-link-any-more"})
FILES = frozenset({"/overview/events"})
"""Routes that answer with a file or a stream, which no browser shows as a page."""


def routes() -> Iterator[str]:
    """The GET routes of pages, with `{}` for each parameter."""
    for router in PAGE_ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                plain = re.sub(r"\{[^}]*\}", "{}", route.path)
                if plain not in FILES:
                    yield plain


async def address_of(browsing: Browsing, route: str) -> str:
    """Where one such page is. Raises `KeyError` for a route with parameters that is not known here."""
    return await ADDRESSES[route](browsing) if "{" in route else ALSO.get(route, route)


async def addresses(browsing: Browsing) -> list[str]:
    """One of each, and those of a delivery in each of several states."""
    found = [await address_of(browsing, route) for route in sorted(set(routes()))]
    return [*found, *MORE]


def _at(address: str) -> Find:
    async def find(browsing: Browsing) -> str:
        del browsing
        return address

    return find


def delivery(feed: str, key: str) -> str:
    """The page of a delivery by its key as stored."""
    return f"/deliveries/{ref_of(f'{feed}:{key}')}"


async def _operation(browsing: Browsing) -> str:
    """An operation that is frozen. The page of one that is about to be loads itself again then."""
    bulk = browsing.console.services.operator.bulk
    orders = Selection((), feeds=("orders",))
    new = NewOperation("every-page", OperationKind.REPLAY, orders, Pace("1/second"))
    made = await bulk.create(new, By("ada", "to be looked at"))

    async def frozen() -> bool:
        return (await bulk.get(made.id)).state is OperationState.FROZEN

    await until(frozen, timeout=30, message="the operation is frozen")
    return f"/operations/{made.id}"


async def _origin(browsing: Browsing) -> str:
    store = browsing.console.services.store
    async with store.writing() as session:
        made = Origin(
            origin=f"https://shop-{browsing.console.url.rpartition(':')[2]}.example",
            note="the shop's dashboard",
            created_at=utc_now(),
            created_by="vy",
        )
        session.add(made)
        await session.flush()
        return f"/admin/origins/{made.id}"


async def _user(browsing: Browsing) -> str:
    name = await browsing.console.user(Role.OPERATOR)
    return f"/admin/users/{browsing.console.ids[name]}"


def _yesterday() -> str:
    return previous(period_of(utc_now(), Kind.DAY, ZONE), ZONE).name


ADDRESSES: dict[str, Find] = {
    "/operations/{}": _operation,
    "/welcome/{}": _at("/welcome/not-a-link-any-more"),
    "/deliveries/{}": _at(delivery("invoices", INVOICE.replace("/", "%2F"))),
    "/feeds/{}": _at("/feeds/orders"),
    "/feeds/{}/preview": _at("/feeds/orders/preview?key=1"),
    "/feeds/{}/rewind": _at("/feeds/orders/rewind?to=beginning"),
    "/certificates/{}": _at("/certificates/orders"),
    "/reports/{}/{}": _at(f"/reports/orders/{_yesterday()}"),
    "/admin/origins/{}": _origin,
    "/admin/users/{}": _user,
}
"""A route with parameters → where one such page is. Those without are visited as they are."""

ALSO: dict[str, str] = {
    "/operations/new": "/operations/new?feed=orders&state=dead",
    "/reports/compare": f"/reports/compare?feed=orders&left={_yesterday()}&right={_yesterday()}",
}
"""What a route without parameters is asked besides."""

MORE = (
    "/deliveries?q=INV-2026/00060",
    "/deliveries?q=nothing-like-that",
    delivery("orders", "100"),
    delivery("orders", "211"),
    delivery("refunds", "3"),
)
