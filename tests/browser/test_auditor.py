"""Two stories: an auditor follows a row and finds what was tampered with; an admin lets an origin in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import expect
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli.main import main
from app.console.security.roles import Role
from tests.support.browsing import Browsing, axe
from tests.support.console_scene import INVOICE, REFUSED
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

    await page.goto("/deliveries?feed=invoices&since=2d")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="CSV").click()
    file = await (await downloading.value).path()
    exported = await asyncio.to_thread(file.read_text, "utf-8")
    assert "INV-2026/00060" in exported

    await page.get_by_label("Find a delivery").fill(INVOICE)
    await page.get_by_label("Find a delivery").press("Enter")
    await page.locator("tbody a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("INV-2026/00060")
    assert "tax id missing" in REFUSED
    await expect(page.locator("main")).to_contain_text("422")

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
