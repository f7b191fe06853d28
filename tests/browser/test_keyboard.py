"""The console by keyboard, and without scripts."""

from __future__ import annotations

from playwright.async_api import Page, expect

from app.console.security.roles import Role
from tests.support.browsing import Browsing

SOMEWHERE = "/admin/audit"


async def _opened(browsing: Browsing) -> Page:
    page = await browsing.page(Role.VIEWER)
    await page.goto(SOMEWHERE)
    return page


async def test_a_slash_goes_to_the_search_and_is_a_letter_there(browsing: Browsing) -> None:
    page = await _opened(browsing)
    await page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Find a delivery")
    await expect(search).to_be_focused()
    await page.keyboard.type("a/b?g")
    await expect(search).to_have_value("a/b?g")
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_a_question_mark_shows_the_keys_and_escape_puts_them_away(browsing: Browsing) -> None:
    page = await _opened(browsing)
    await page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    await expect(help_).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(help_).to_be_hidden()


async def test_g_and_a_letter_go_to_a_page(browsing: Browsing) -> None:
    page = await _opened(browsing)
    await page.keyboard.press("g")
    await page.keyboard.press("d")
    await page.wait_for_url("**/deliveries")


async def test_the_keys_can_be_switched_off(browsing: Browsing) -> None:
    page = await _opened(browsing)
    await page.get_by_role("button", name="Keys").click()
    await page.get_by_label("Use these keys in this browser").uncheck()
    await page.keyboard.press("Escape")
    await page.reload()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await expect(page.locator("#search")).not_to_be_focused()


async def test_the_first_tab_skips_to_the_content(browsing: Browsing) -> None:
    page = await _opened(browsing)
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


async def test_a_narrow_page_has_its_menu_without_scripts(browsing: Browsing) -> None:
    page = await browsing.page(Role.VIEWER, scripts=False, width=360)
    await page.goto(SOMEWHERE)
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Audit log")
    await expect(link).to_be_hidden()
    await page.get_by_role("button", name="Menu").click()
    await expect(link).to_be_visible()
    await expect(link).to_have_attribute("aria-current", "page")
