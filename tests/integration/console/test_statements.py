"""No page or endpoint asks the console's database once a row."""

from __future__ import annotations

import httpx

from app.console.security.roles import Role
from tests.integration.console.test_roles import ROUTES
from tests.support.console import PASSWORD, Consoled
from tests.support.console_ledger import delivery, put
from tests.support.statements import statements

MOST = 8
"""Statements of a page: who asks, and what is shown."""


async def test_every_list_asks_as_many_statements_for_many_rows_as_for_few(
    console: Consoled,
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await _fill(console, admin, range(2))
    few = await _asked(console, admin)
    await _fill(console, admin, range(2, 12))
    many = await _asked(console, admin)
    assert {path: sent for path, sent in many.items() if len(sent) > len(few[path])} == {}
    assert {path: len(sent) for path, sent in many.items() if len(sent) > MOST} == {}
    assert len(many["/api/v1/users"]) == 2, "else nothing is counted"


async def _asked(console: Consoled, admin: httpx.AsyncClient) -> dict[str, list[str]]:
    found = {}
    for route, rule in ROUTES.items():
        method, _, path = route.partition(" ")
        if method != "GET" or "{" in path or rule.streams:
            continue
        with statements(console.services.store.engine) as sent:
            answer = await admin.get(path, params=rule.query)
        assert answer.status_code in {200, 303, 404, 422}, route  # some reports are not there
        found[path] = sent
    return found


async def _fill(console: Consoled, admin: httpx.AsyncClient, numbers: range) -> None:
    """Some more of all that is listed."""
    for number in numbers:
        name = f"viewer-{number}"
        await console.user(Role.VIEWER, name)
        login = {"name": name, "password": PASSWORD}
        note = {"subject_kind": "feed", "subject_id": "orders", "text": "a note"}
        made = (
            await admin.post("/api/v1/tokens", json=login),
            await admin.post("/api/v1/api-keys", json={"name": name, "role": "viewer"}),
            await admin.post("/api/v1/origins", json={"origin": f"https://x{number}.example"}),
            await admin.post("/api/v1/feedback", json=note),
        )
        assert {one.status_code for one in made} == {201}
    await put(console, *(delivery(number) for number in numbers))
