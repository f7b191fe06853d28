"""The overview in a browser: it keeps itself up to date, rests while nobody looks, and works without JavaScript."""

from __future__ import annotations

from app.console.security.roles import Role
from app.operations.by import By
from app.operations.pause import pause, resume
from tests.support.browsing import Browsing

HOSTILE = "<img src=x onerror=\"document.title='rr5f3c'\">"


async def test_a_pause_appears_by_itself_with_its_reason_as_text(browsing: Browsing) -> None:
    ledger = browsing.console.services.operator.ledger
    page = await browsing.page(Role.VIEWER)
    await page.goto("/")
    await page.get_by_text("Kept up to date.").wait_for()
    link = page.locator('a[href="/feeds/orders"]')
    await link.focus()
    await page.evaluate("document.querySelector('[data-live] table').dataset.kept = 'yes'")
    try:
        await pause(ledger, "orders", By("somebody", HOSTILE))
        await page.get_by_text(HOSTILE).wait_for()
        assert "rr5f3c" not in await page.title()
        assert await page.evaluate("document.activeElement.getAttribute('href')") == "/feeds/orders"
        assert await page.locator("table[data-kept]").count() == 1, "only its cell is new"
    finally:
        await resume(ledger, "orders", By("somebody"))
    await page.get_by_text(HOSTILE).wait_for(state="detached")


async def test_the_page_is_whole_without_javascript(browsing: Browsing) -> None:
    page = await browsing.page(Role.OPERATOR, scripts=False)
    await page.goto("/")
    await page.get_by_role("link", name="orders", exact=True).click()
    assert await page.locator("svg.chart").count() >= 1
    form = page.locator('form[action="/feeds/orders/pause"]')
    await form.locator("input[name=why]").fill("the partner asked for it")
    await form.get_by_role("button").click()
    await page.get_by_role("status").get_by_text("the partner asked for it").wait_for()
    form = page.locator('form[action="/feeds/orders/resume"]')
    await form.locator("input[name=why]").fill("they are back")
    await form.get_by_role("button").click()
    await page.get_by_role("status").get_by_text("resumed").wait_for()
