"""Two stories: an auditor follows a row and finds what was tampered with; an admin lets an origin in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, expect
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli.main import main
from app.console.security.roles import Role
from app.core.clock import utc_now
from tests.support.browsing import Browsing, axe
from tests.support.console_scene import INVOICE
from tests.unit.configuration.test_config import GOOD

ASKS = """async (url) => {
  try {
    const answer = await fetch(url + "/api/v1/users/me", {credentials: "include"});
    return (await answer.json()).name;
  } catch (error) { return "kept out"; }
}"""


async def test_an_auditor_follows_a_row_and_finds_the_entry_that_was_edited(
    browsing: Browsing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browsing.console.user(Role.OPERATOR)
    page = await browsing.page(Role.VIEWER, name="auditor")

    exported = await _export_of_yesterday(page, "invoices")
    assert any(INVOICE in line for line in exported)

    await page.goto("/feeds/invoices")
    await page.get_by_role("link", name="Certificates").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Certificate of invoices")
    vouched = page.locator("dt", has_text="Source rows").locator("xpath=following-sibling::dd[1]")
    await expect(vouched).to_have_text(str(len(exported)))  # the day was the feed's first
    await page.get_by_role("row", name="dead").get_by_role("link").click()
    await page.get_by_role("table").get_by_role("link", name=INVOICE).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(INVOICE)
    attempts = page.get_by_role("region", name="What happened").get_by_role("listitem")
    attempt = attempts.filter(has_text="Attempt")
    await expect(attempt).to_have_count(1)
    await expect(attempt).to_contain_text("422")
    await expect(attempt).to_contain_text("tax id missing")

    await page.goto("/admin/audit")
    await page.get_by_role("button", name="Verify the whole log").click()
    await expect(page.get_by_role("status")).to_contain_text("each as it was written")

    async with browsing.console.services.store.engine.begin() as connection:
        edit = "UPDATE audit_entries SET subject = 'somebody else' WHERE number = 2"
        await connection.execute(text(edit))
    await page.get_by_role("button", name="Verify the whole log").click()
    said = "entry 2 is not what was written"
    await expect(page.get_by_role("alert")).to_contain_text(said)
    await page.get_by_role("link", name="Show that place in the log").click()
    await expect(page.locator("#entry-2")).to_contain_text("somebody else")
    assert not await axe(page)

    answer = await asyncio.to_thread(_command, browsing, tmp_path, monkeypatch)
    assert answer == (1, f"rowrelay: audit: {said}\n")


async def _export_of_yesterday(page: Page, feed: str) -> list[str]:
    """The deliveries of a feed that were settled then, as a file: its lines without the first."""
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    await page.goto("/deliveries")
    await page.get_by_label("Feed", exact=True).select_option(feed)
    await page.get_by_label("From").fill(f"{today - timedelta(days=1):%Y-%m-%dT%H:%M:%S}")
    await page.get_by_label("Before").fill(f"{today:%Y-%m-%dT%H:%M:%S}")
    await page.locator("main").get_by_role("button", name="Search").click()
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="CSV").click()
    file = await (await downloading.value).path()
    text = await asyncio.to_thread(file.read_text, "utf-8")
    _, *lines = text.splitlines()
    return lines


def _command(
    browsing: Browsing, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """`console audit verify`, over the same database: its exit code, and what it printed."""
    (directory / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(directory)
    given = browsing.console.services
    monkeypatch.setenv("MONGO_URL", given.loaded.settings.mongo_url.get_secret_value())
    monkeypatch.setenv("CONSOLE_DATABASE_URL", f"sqlite:///{given.store.engine.url.database}")
    answer = CliRunner().invoke(main, ["console", "audit", "verify"])
    return answer.exit_code, answer.stderr


async def test_an_admin_lets_an_origin_in_and_its_page_is_answered_at_once(
    browsing: Browsing,
) -> None:
    page = await browsing.page(Role.ADMIN)
    async with _site() as known, _site() as other:
        elsewhere = await page.context.new_page()
        await elsewhere.goto(known)
        url = browsing.console.url
        assert await elsewhere.evaluate(ASKS, url) == "kept out"

        await page.goto("/admin/origins")
        await page.locator("#origin").fill(known)
        await page.get_by_role("button", name="Let it in").click()
        await expect(page.get_by_role("status")).to_contain_text(f"{known} is let in")
        assert await elsewhere.evaluate(ASKS, url) == "admin"
        await elsewhere.goto(other)
        assert await elsewhere.evaluate(ASKS, url) == "kept out"

        await page.get_by_role("link", name=known).click()
        await page.get_by_label("Let its pages in").uncheck()
        await page.get_by_role("button", name="Change").click()
        await elsewhere.goto(known)
        assert await elsewhere.evaluate(ASKS, url) == "kept out"


@asynccontextmanager
async def _site() -> AsyncIterator[str]:
    """A page of an origin of its own; yields the origin."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(
            text="<!doctype html><title>Elsewhere</title>", content_type="text/html"
        )

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
