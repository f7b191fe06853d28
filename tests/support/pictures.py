"""Pictures of every page of the console over the scene: light, dark, narrow, and in Vietnamese.

scripts/pictures [directory] [part of an address …]
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Page, async_playwright
from sqlalchemy import update

from app.console.security.roles import Role
from app.console.store.tables import User
from app.core.logs import configure_logging
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from tests.support.browsing import Browsing
from tests.support.console_addresses import WITHOUT_LOGIN, addresses, delivery
from tests.support.console_scene import INVOICE, scene_config, set_scene
from tests.support.console_server import served_console

WAYS = {
    "light": {"width": 1280},
    "dark": {"width": 1280, "dark": True},
    "narrow": {"width": 360},
    "vi": {"width": 1280},
}

DOCS = {
    delivery("invoices", INVOICE.replace("/", "%2F")): ("console-delivery", "light"),
    "/deliveries?q=INV-2026&state=dead": ("console-vietnamese", "vi"),
}
"""Address → the name of its picture in docs/images, and in which of `WAYS` it is taken."""


async def take(folder: Path, parts: list[str]) -> None:
    """Take all of them; with `parts` those of addresses that have one."""
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    async with AsyncExitStack() as open_:
        place = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="rowrelay-pictures-")))
        mongo = open_.enter_context(EmbeddedMongo(place / "mongo").start())
        redis = open_.enter_context(EmbeddedRedis(place / "redis").start())
        playwright = await open_.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        open_.push_async_callback(browser.close)
        console = await open_.enter_async_context(
            served_console(lambda: scene_config(place, mongo.url, redis.url))
        )
        browsing = Browsing(browser, console, await set_scene(console, place))
        await console.user(Role.ADMIN, "linh")
        async with console.services.store.writing() as session:
            statement = update(User).where(User.id == console.ids["linh"])
            await session.execute(
                statement.values(language="vi", time_zone="Asia/Ho_Chi_Minh", display_name="Linh")
            )
        await _for_the_docs(browsing, folder)
        for address in await addresses(browsing):
            if (
                not parts
                or address in parts
                or any(part in address for part in parts if part != "/")
            ):
                await _all_ways(browsing, address, folder)
        print("\n".join(browsing.complaints))  # noqa: T201 - a command


async def _for_the_docs(browsing: Browsing, folder: Path) -> None:
    for address, (name, way) in DOCS.items():
        user = "linh" if way == "vi" else None
        page = await browsing.page(
            Role.ADMIN, name=user, dark=way == "dark", width=1200, height=760
        )
        await page.goto(address)
        await page.screenshot(path=folder / f"{name}.png")
    await browsing.close_pages()


async def _all_ways(browsing: Browsing, address: str, folder: Path) -> None:
    name = address if len(address) > 1 else "overview"
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    for way, options in WAYS.items():
        role = None if address in WITHOUT_LOGIN else Role.ADMIN
        page = await browsing.page(role, name="linh" if way == "vi" else None, **options)  # type: ignore[arg-type] # of one dict
        await _picture(page, address, folder / f"{name}.{way}.png")
    await browsing.close_pages()


async def _picture(page: Page, address: str, path: Path) -> None:
    answered = await page.goto(address)
    await page.screenshot(path=path, full_page=True)
    print(f"{answered.status if answered else '?'} {address} {path}", flush=True)  # noqa: T201 - a command


def main() -> None:
    """Take them into the directory named, by default `pictures`."""
    configure_logging("WARNING", "text")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(folder, sys.argv[2:]))


if __name__ == "__main__":
    main()
