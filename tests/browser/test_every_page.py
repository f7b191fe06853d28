"""Every page of the console, light and dark: nothing that axe finds, nothing that the Content Security Policy
keeps out, no sideways scroll on a narrow screen, and small."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from app.console.security.roles import Role
from tests.support.browsing import Browsing, axe
from tests.support.console_addresses import ADDRESSES, WITHOUT_LOGIN, address_of, routes

MOST_BYTES = 60_000
"""Of a page with its style sheet and scripts, as sent."""


NOTHING_FOUND = "/deliveries?q=nothing"


@pytest.mark.parametrize("route", [*sorted(set(routes())), NOTHING_FOUND])
async def test_a_page_is_for_everybody(browsing: Browsing, route: str) -> None:
    assert "{" not in route or route in ADDRESSES, "say in console_addresses where such a page is"
    address = await address_of(browsing, route)
    page = await browsing.page(None if address in WITHOUT_LOGIN else Role.ADMIN)
    sent = await _count_bytes(page)
    answered = await page.goto(address)
    assert answered
    assert answered.status == 200
    wrong: dict[str, object] = {}
    if found := await axe(page):
        wrong["light"] = found
    await page.emulate_media(color_scheme="dark")
    if found := await axe(page, "color-contrast"):
        wrong["dark"] = found
    await page.set_viewport_size({"width": 320, "height": 800})
    wide = await page.evaluate("document.documentElement.scrollWidth")
    if wide > 320:
        wrong["scrolls sideways at 320 px"] = wide
    assert not wrong
    assert 0 < sum(sent) < MOST_BYTES


async def _count_bytes(page: Page) -> list[int]:
    """Bytes of each file that the page loads from now on, as they come over the socket."""
    sent: list[int] = []
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")

    def loaded(event: dict[str, float]) -> None:
        sent.append(int(event["encodedDataLength"]))

    session.on("Network.loadingFinished", loaded)
    return sent
