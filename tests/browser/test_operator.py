"""The operator's story: 500 dead letters of a kind, a canary that stops, a cause that is mended, a sum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from playwright.async_api import Page, expect

from app.console.security.roles import Role
from app.core.attempts import Answer
from app.core.clock import utc_now
from app.core.deliveries import Delivery
from app.core.states import State
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from tests.support.browsing import Browsing, axe
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, put

MANY = 500
REASON = "418 no such voucher"
LONG_MS = 60_000
"""The bound on what a worker, a runner and a browser do together on a machine that is busy."""


@dataclass(slots=True)
class Partner:
    """Refuses what it is sent, until it is mended."""

    mended: bool = False
    requests: int = 0

    def forget_token(self, feed: str) -> None:
        """There is none."""

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        del feed, delivery
        self.requests += 1
        return Answer(utc_now(), 1, 200 if self.mended else 418)


@asynccontextmanager
async def worker(console: Consoled, partner: Partner) -> AsyncIterator[None]:
    """A worker that takes every message."""
    lease = timedelta(minutes=1)
    terms = DeliverySettings("worker@test", lease, group_size=50, group_wait=timedelta())
    operator = console.services.operator
    delivering = Delivering(operator.ledger, partner, terms)

    async def work() -> None:
        while True:
            while console.queue.messages:
                feed, batch = console.queue.messages.pop(0)
                await delivering.deliver(operator.feeds[feed], batch)
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def say(page: Page, verb: str, why: str) -> None:
    """Fill in the reason beside that button, and press it."""
    form = page.locator("form", has=page.get_by_role("button", name=verb, exact=True))
    await form.get_by_label("Why").fill(why)
    await form.get_by_role("button", name=verb, exact=True).click()


async def shows(page: Page, text: str) -> None:
    """Wait until the page says so; it reads itself anew."""
    await expect(page.locator("#main")).to_contain_text(text, timeout=LONG_MS)


async def test_an_operator_replays_500_and_a_canary_stops_it_until_the_cause_is_mended(
    browsing: Browsing,
) -> None:
    console, partner = browsing.console, Partner()
    last = {"at": utc_now(), "status": 418, "error": REASON}
    dead = [delivery(f"voucher-{number:03}", reason=REASON, last=last) for number in range(MANY)]
    await put(console, *dead)
    page = await browsing.page(Role.OPERATOR)
    async with worker(console, partner):
        await page.goto("/dead-letters?feed=orders")
        group = page.get_by_role("row").filter(has_text=REASON).first
        await group.get_by_role("button", name="Act on this group").click()
        await shows(page, "500 are selected")
        await page.get_by_label("Rate").fill("1000/second")
        await page.get_by_label("Canary").fill("5")
        await page.get_by_label("Stop at failures above (percent)").fill("20")
        await say(page, "Freeze the set", "vouchers are there again")
        await shows(page, "The set is frozen")
        await say(page, "Start", "the partner says they are there")
        await shows(page, "5 of 5 of the canary failed")
        assert partner.requests == 5, "and no other was sent"

        partner.mended = True
        await say(page, "Resume", "now they really are")
        closing = page.locator("#closing")
        await expect(closing).to_contain_text("500 of 500 acted on", timeout=LONG_MS)
    await expect(closing).to_contain_text("0 others")
    assert not await axe(page)
    assert partner.requests == 5 + MANY
    stored = console.services.operator.ledger._database["deliveries"]
    named = {"_id": {"$in": [one["_id"] for one in dead]}, "state": State.DELIVERED.value}
    assert await stored.count_documents(named) == MANY
