"""What all pages share: a notice is said once, and controls say why they cannot be used."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from app.console.pages import ReadBy, environment, go, render
from app.console.security.roles import Role
from tests.support.console import Consoled


async def test_a_notice_is_said_once_and_cannot_be_markup(console: Consoled) -> None:
    @console.app.get("/told")
    async def told() -> Response:
        return go("/login", "Paused <b>orders</b>; ünïcode")

    browser = await console.client()
    assert (await browser.get("/told")).status_code == 303
    page = (await browser.get("/login")).text
    assert "Paused &lt;b&gt;orders&lt;/b&gt;; ünïcode</p>" in page
    assert "Paused" not in (await browser.get("/login")).text


async def test_what_a_reader_may_not_do_is_there_disabled_and_says_why(console: Consoled) -> None:
    template = environment("en").from_string(
        '{% import "parts.html" as ui with context %}'
        '{{ ui.button("Replay", "OPERATE") }}{% include "navigation.html" %}'
    )

    @console.app.get("/tried")
    async def tried(request: Request, who: ReadBy) -> Response:
        return render(request, who, template)  # type: ignore[arg-type] # Jinja takes one as well

    viewer, admin = await console.logged_in(Role.VIEWER), await console.logged_in(Role.ADMIN)
    seen = (await viewer.get("/tried")).text
    assert "<button disabled>Replay</button>" in seen
    assert "takes the role operator; yours is viewer" in seen
    assert 'href="/admin/users"' not in seen
    assert "Users" in seen
    seen = (await admin.get("/tried")).text
    assert "<button>Replay</button>" in seen
    assert 'href="/admin/users"' in seen
