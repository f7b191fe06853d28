"""The story of the support colleague: a customer calls about an invoice."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from sqlalchemy import select

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from app.console.store.tables import AuditEntry
from tests.support.browsing import Browsing

DELIVERY = "invoices:acme:INV-2026%2F00060"
ADDRESS = f"/deliveries/{ref_of(DELIVERY)}"
FORGE = """async (address) => {
  const body = new URLSearchParams({why: "let me try"});
  return (await fetch(address, {method: "POST", body})).status;
}"""


async def find(page: Page, typed: str) -> None:
    """By the search box on top of every page."""
    await page.goto("/deliveries")
    box = page.locator("header").get_by_role("searchbox")
    await box.fill(typed)
    await box.press("Enter")


@pytest.mark.parametrize("scripts", [True, False])
async def test_support_finds_the_invoice_reads_the_answer_and_may_not_replay(
    browsing: Browsing, scripts: bool
) -> None:
    page = await browsing.page(Role.VIEWER, scripts=scripts)
    await find(page, "INV-2026/00060")
    found = page.get_by_role("table").get_by_role("link", name="acme:INV-2026/00060")
    await expect(found).to_have_count(1)
    await found.click()
    await expect(page).to_have_url(f"{browsing.console.url}{ADDRESS}")
    timeline = page.get_by_role("region", name="What happened")
    await expect(timeline).to_contain_text("422")
    await expect(timeline).to_contain_text("tax id missing")
    replay = page.get_by_role("button", name="Replay")
    await expect(replay).to_be_disabled()
    await expect(page.get_by_role("region", name="Act on it")).to_contain_text(
        "to replay, cancel and acknowledge deliveries takes the role operator; yours is viewer"
    )


async def test_a_forged_replay_of_support_is_refused_and_on_record(browsing: Browsing) -> None:
    page = await browsing.page(Role.VIEWER)
    await page.goto(ADDRESS)
    assert await page.evaluate(FORGE, f"{ADDRESS}/replay") == 403
    ledger = browsing.console.services.operator.ledger
    document = await ledger.deliveries.get(DELIVERY)
    assert document is not None
    assert document["state"] == "dead"
    async with browsing.console.services.store.reading() as session:
        asked = select(AuditEntry).where(AuditEntry.action == "delivery.replay.refused")
        entry = (await session.scalars(asked)).one()
    assert (entry.who, entry.subject, entry.why) == ("viewer", DELIVERY, "let me try")


async def test_a_view_can_be_sent_to_a_colleague(browsing: Browsing) -> None:
    page = await browsing.page(Role.VIEWER)
    await page.goto("/deliveries")
    await page.get_by_label("dead", exact=True).check()
    await page.get_by_label("HTTP status").fill("422")
    await page.locator("main").get_by_role("button", name="Search").click()
    await expect(page.get_by_role("table")).to_contain_text("INV-2026/00060")
    other = await browsing.page(Role.OPERATOR)
    await other.goto(page.url)
    await expect(other.get_by_role("table")).to_contain_text("INV-2026/00060")
    await expect(other.get_by_label("dead", exact=True)).to_be_checked()
