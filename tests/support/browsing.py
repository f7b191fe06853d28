"""A browser before a console: pages of a role, what they complained of, and what axe finds in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped] # it has no types
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, StorageState

from app.console.security.roles import Role
from tests.support.console import PASSWORD, Consoled
from tests.support.console_scene import Scene

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Browsing:
    """A browser, the console that it looks at, and the scene behind it."""

    browser: Browser
    console: Consoled
    scene: Scene
    complaints: list[str] = field(default_factory=list)
    """What pages said that they should not: scripts that failed, and what the Content Security Policy
    kept out."""
    _contexts: list[BrowserContext] = field(default_factory=list)
    _logins: dict[str, StorageState] = field(default_factory=dict)

    async def page(
        self,
        role: Role | None = None,
        *,
        name: str | None = None,
        scripts: bool = True,
        dark: bool = False,
        width: int = 1280,
        height: int = 900,
    ) -> Page:
        """A page in a context of its own; with a role, of a user who is logged in. `name`: whose, by
        default the role's."""
        state = await self._login(role, name) if role else None
        context = await self.browser.new_context(
            base_url=self.console.url,
            storage_state=state,
            java_script_enabled=scripts,
            color_scheme=_scheme(dark),
            viewport={"width": width, "height": height},
            locale="en-GB",
        )
        self._contexts.append(context)
        context.set_default_timeout(20_000)
        page = await context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        return page

    async def _login(self, role: Role, name: str | None) -> StorageState:
        """Log in by the form, once for each user."""
        name = await self.console.user(role, name)
        if name not in self._logins:
            page = await self.page()
            await log_in(page, name)
            await page.wait_for_url(lambda url: "/login" not in url)
            self._logins[name] = await page.context.storage_state()
        return self._logins[name]

    async def close_pages(self) -> list[str]:
        """Close all of them; returns what they complained of."""
        for context in self._contexts:
            await context.close()
        self._contexts.clear()
        said, self.complaints = self.complaints, []
        return said

    def _heard(self, message: ConsoleMessage) -> None:
        # Chromium says so of every response of 400 and above, which a test asks for on purpose.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))


async def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """By the form, from wherever the page stands if that is the login, else from its address."""
    if "/login" not in page.url:
        await page.goto("/login")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_load_state()


async def axe(page: Page, rule: str | None = None) -> list[str]:
    """What axe finds wrong: a line an element, with the rule, where, and what it says. None: nothing.

    `rule`: asked for alone. What another color scheme changes is `color-contrast`."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    only = {"type": "rule", "values": [rule]} if rule else {"type": "tag", "values": WCAG}
    options = {"runOnly": only, "resultTypes": ["violations"]}
    found = await page.evaluate(f"axe.run(document, {json.dumps(options)})")
    return [
        f"{one['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def _scheme(dark: bool) -> Literal["dark", "light"]:
    return "dark" if dark else "light"
