"""Logging in, as a person does it."""

from __future__ import annotations

from playwright.async_api import expect

from app.console.security.roles import Role
from tests.support.browsing import Browsing, log_in


async def test_who_logs_in_comes_to_the_page_that_was_asked_for(browsing: Browsing) -> None:
    name = await browsing.console.user(Role.VIEWER)
    page = await browsing.page()
    await page.goto("/login?next=/profile")
    await log_in(page, name, "a wrong password")
    await expect(page.get_by_role("alert")).to_have_text("the name or the password is wrong")
    await expect(page.get_by_label("Name")).to_have_value(name)
    await log_in(page, name)
    await page.wait_for_url("**/profile")
