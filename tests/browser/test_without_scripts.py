"""Pages are links and forms: without scripts a row is found, and what the partner answered is read."""

from __future__ import annotations

from playwright.async_api import expect

from app.console.security.roles import Role
from tests.support.browsing import Browsing, log_in
from tests.support.console_scene import INVOICE


async def test_a_row_is_found_and_read(browsing: Browsing) -> None:
    name = await browsing.console.user(Role.VIEWER)
    page = await browsing.page(scripts=False)
    await page.goto("/login?next=/profile")
    await log_in(page, name)
    await page.wait_for_url("**/profile")
    search = page.get_by_role("searchbox", name="Find a delivery")
    await search.fill(INVOICE)
    await search.press("Enter")
    await page.wait_for_url("**/deliveries?q=*")
    await page.get_by_role("link", name=INVOICE).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"invoices:{INVOICE}")
    await expect(page.get_by_role("main")).to_contain_text("tax id missing")
    await expect(page.get_by_role("button", name="Replay")).to_be_disabled()
