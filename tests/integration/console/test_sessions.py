"""Browsers: a cookie of one's own, sessions that are seen and ended, and passwords that cannot be tried out."""

from __future__ import annotations

import asyncio

from app.console.security.login_limits import OF_ACCOUNT
from app.console.security.roles import Role
from tests.support.console import PASSWORD, Consoled

ME, SESSIONS = "/api/v1/users/me", "/api/v1/sessions"


async def test_a_login_gets_a_session_of_its_own_and_ends_the_one_it_came_with(
    console: Consoled,
) -> None:
    browser = await console.logged_in(Role.VIEWER)
    name = console.services.authentication.cookie.name
    before = browser.cookies[name]
    await browser.post("/login", data={"name": "viewer", "password": PASSWORD})
    assert browser.cookies[name] != before
    fixed = await console.client()
    fixed.cookies.set(name, before, domain="127.0.0.1", path="/")
    assert (await fixed.get(ME)).status_code == 401
    fixed.cookies.set(name, "chosen-by-an-attacker", domain="127.0.0.1", path="/")
    answer = await fixed.post("/login", data={"name": "viewer", "password": PASSWORD})
    assert "chosen-by-an-attacker" not in answer.headers["set-cookie"]


async def test_the_cookie_cannot_be_read_by_a_page_nor_sent_by_another_site(
    console: Consoled,
) -> None:
    await console.user(Role.VIEWER)
    browser = await console.client()
    begun = await browser.post("/login", data={"name": "viewer", "password": PASSWORD})
    flags = begun.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "samesite=lax", "path=/"))
    assert "domain" not in flags


async def test_own_sessions_are_listed_and_ended_and_an_admin_sees_all(console: Consoled) -> None:
    viewer, admin = await console.logged_in(Role.VIEWER), await console.logged_in(Role.ADMIN)
    other = await console.logged_in(Role.VIEWER)
    listed = (await viewer.get(SESSIONS)).json()["items"]
    assert [one["user"] for one in listed] == ["viewer", "viewer"]
    (current,) = [one["id"] for one in listed if one["current"]]
    (theirs,) = [one["id"] for one in listed if not one["current"]]
    assert (await viewer.get(SESSIONS, params={"all": True})).status_code == 403
    admins = (await admin.get(SESSIONS)).json()["items"][0]["id"]
    assert (await viewer.delete(f"{SESSIONS}/{admins}")).status_code == 404
    assert (await viewer.delete(f"{SESSIONS}/{theirs}")).status_code == 204
    assert (await other.get(ME)).status_code == 401
    page = (await admin.get(SESSIONS, params={"all": True, "limit": 1})).json()
    rest = await admin.get(SESSIONS, params={"all": True, "after": page["next"]})
    assert len(page["items"] + rest.json()["items"]) == 2
    assert (await admin.delete(f"{SESSIONS}/{current}")).status_code == 204
    assert (await viewer.get(ME)).status_code == 401


async def test_a_wrong_current_password_counts_as_a_login_that_failed(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    change = {"current": "not the password", "new": PASSWORD + " new"}
    answers = [await viewer.post(f"{ME}/password", json=change) for _ in range(OF_ACCOUNT.amount)]
    assert {one.status_code for one in answers} == {422}
    refused = await viewer.post(f"{ME}/password", json=change | {"current": PASSWORD})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    login = await (await console.client()).post(
        "/api/v1/tokens", json={"name": "viewer", "password": PASSWORD}
    )
    assert login.status_code == 429


async def test_a_changed_password_ends_every_other_session(console: Consoled) -> None:
    viewer, other = await console.logged_in(Role.VIEWER), await console.logged_in(Role.VIEWER)
    change = {"current": PASSWORD, "new": PASSWORD + " new"}
    assert (await viewer.post(f"{ME}/password", json=change)).status_code == 204
    assert (await viewer.get(ME)).status_code == 200
    assert (await other.get(ME)).status_code == 401


async def test_a_login_that_was_under_way_when_the_password_changed_begins_no_session(
    console: Consoled,
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    proved, go_on = asyncio.Event(), asyncio.Event()
    right = console.services.login_limits.right

    async def waits(name: str) -> None:
        proved.set()
        await go_on.wait()
        await right(name)

    login = {"name": "viewer", "password": PASSWORD}
    console.services.login_limits.right = waits  # type: ignore[method-assign] # the test stops it there
    somebody = await console.client()
    under_way = asyncio.create_task(somebody.post("/api/v1/tokens", json=login))
    await proved.wait()
    console.services.login_limits.right = right  # type: ignore[method-assign] # as it was
    change = {"current": PASSWORD, "new": PASSWORD + " new"}
    assert (await viewer.post(f"{ME}/password", json=change)).status_code == 204
    go_on.set()
    assert (await under_way).status_code == 401


async def test_a_logout_takes_the_cookie_away(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    gone = await viewer.post("/logout")
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    assert (await viewer.get(ME)).status_code == 401


async def test_the_address_of_a_one_time_link_is_kept_nowhere_and_told_to_nobody(
    console: Consoled,
) -> None:
    page = await (await console.client()).get("/welcome/not-a-link")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "strict-origin"
