"""Every page of the console, light and dark: nothing that axe finds, nothing that the Content Security Policy
keeps out, no sideways scroll on a narrow screen, and small."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
from fastapi.routing import APIRoute

from app.console.app import PAGE_ROUTERS
from app.console.security.roles import Role
from tests.support.browsing import Browsing, axe

MOST_BYTES = 60_000
"""Of a page with its style sheet and scripts, as sent."""

Find = Callable[[Browsing], Awaitable[str]]


def at(address: str) -> Find:
    """An address that is known beforehand."""

    async def find(browsing: Browsing) -> str:
        del browsing
        return address

    return find


ADDRESSES: dict[str, Find] = {
    "/feeds/{name}": at("/feeds/orders"),
    "/feeds/{name}/preview": at("/feeds/orders/preview?key=1"),
    "/feeds/{name}/rewind": at("/feeds/orders/rewind?to=beginning"),
    "/welcome/{link}": at("/welcome/not-a-link-any-more"),
}
"""A route with parameters → where one such page is. Those without are visited as they are."""

FILES = frozenset({"/overview/events"})
"""Routes that answer with a file or a stream, which no browser shows as a page."""


def routes() -> Iterator[str]:
    """The GET routes of pages."""
    for router in PAGE_ROUTERS:
        for route in router.routes:
            if not isinstance(route, APIRoute) or route.path in FILES:
                continue
            if "GET" in (route.methods or ()):
                yield route.path


@pytest.mark.parametrize("route", sorted(set(routes())))
async def test_a_page_is_for_everybody(browsing: Browsing, route: str) -> None:
    assert "{" not in route or route in ADDRESSES, "say in ADDRESSES where such a page is"
    address = await ADDRESSES[route](browsing) if "{" in route else route
    page = await browsing.page(None if route in ("/login", "/welcome/{link}") else Role.ADMIN)
    answered = await page.goto(address)
    assert answered
    assert answered.status == 200
    wrong: dict[str, object] = {}
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        if found := await axe(page):
            wrong[scheme] = found
    await page.set_viewport_size({"width": 320, "height": 800})
    wide = await page.evaluate("document.documentElement.scrollWidth")
    if wide > 320:
        wrong["scrolls sideways at 320 px"] = wide
    assert not wrong
    assert await _sent(browsing, address) < MOST_BYTES


async def _sent(browsing: Browsing, address: str) -> int:
    """Bytes of the page and of what it loads, as they come over the socket."""
    page = await browsing.page(Role.ADMIN)
    sent = 0
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")

    def loaded(event: dict[str, float]) -> None:
        nonlocal sent
        sent += int(event["encodedDataLength"])

    session.on("Network.loadingFinished", loaded)
    await page.goto(address, wait_until="load")
    return sent
