"""The console as people see it: uvicorn behind a socket, and Chromium.

Tests, console and browser's connection share one event loop for the whole run, so a test may ask the
services what a page only tells. One browser serves the run, one console with the scene serves them all, and each
page has a context of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright
from pymongo import MongoClient

from tests.support.browsing import Browsing
from tests.support.console import cheap_passwords
from tests.support.console_scene import scene_config, set_scene
from tests.support.console_server import served_console

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OURS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All on the loop of the session, on which the browser was started."""
    for item in items:
        if OURS in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for the run. Without one the tests are skipped; under CI, as root, `scripts/test`
    installs it, and says so where it cannot."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: install Debian's package chromium, or Google Chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def stage(
    chromium: Browser,
    tmp_path_factory: pytest.TempPathFactory,
    mongo_url: str,
    mongo_admin_url: str,
    redis_url: str,
) -> AsyncIterator[Browsing]:
    """A console with the scene, for all the tests here: it takes seconds to set. A test leaves the feeds
    running, and counts only what it named itself."""
    directory = tmp_path_factory.mktemp("console")
    database = f"rowrelay_test_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(mongo_url)._replace(path=f"/{database}"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("app.console.services.Passwords", cheap_passwords)
        async with served_console(lambda: scene_config(directory, url, redis_url)) as console:
            scene = await set_scene(console, directory)
            yield Browsing(chromium, console, scene)
    with MongoClient[dict[str, object]](mongo_admin_url) as client:
        client.drop_database(database)


@pytest_asyncio.fixture(loop_scope="session")
async def browsing(stage: Browsing) -> AsyncIterator[Browsing]:
    """That console, for one test: its pages are closed afterwards, and none may have complained."""
    try:
        yield stage
    finally:
        complaints = await stage.close_pages()
    assert not complaints
