"""Every page of the console, light and dark: nothing that axe finds, nothing that the Content Security Policy
keeps out, no sideways scroll on a narrow screen, and small."""

from __future__ import annotations

import pytest

from app.console.security.roles import Role
from tests.support.browsing import Browsing, axe
from tests.support.console_addresses import ADDRESSES, WITHOUT_LOGIN, address_of, routes

MOST_BYTES = 60_000
"""Of a page with its style sheet and scripts, as sent."""


@pytest.mark.parametrize("route", sorted(set(routes())))
async def test_a_page_is_for_everybody(browsing: Browsing, route: str) -> None:
    assert "{" not in route or route in ADDRESSES, "say in console_addresses where such a page is"
    address = await address_of(browsing, route)
    page = await browsing.page(None if address in WITHOUT_LOGIN else Role.ADMIN)
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
