"""Attacks on the way in: passwords tried out, other sites' pages, forged tokens, addresses that lead away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.console.pages import safe_path
from app.console.security.guard import POLICY
from app.console.security.login_limits import FROM_ADDRESS, OF_ACCOUNT
from app.console.security.passwords import Verdict
from app.console.security.roles import Role
from app.console.users.schemas import NewUser
from tests.support.console import (
    PASSWORD,
    SHELL,
    URL,
    Consoled,
    cheap_passwords,
    console_config,
    running_console,
)
from tests.support.hostile import ELSEWHERE, ODD

ME, TOKENS = "/api/v1/users/me", "/api/v1/tokens"
WRONG = "not the right password"


async def _try(client: httpx.AsyncClient, name: str, password: str = WRONG) -> httpx.Response:
    return await client.post(TOKENS, json={"name": name, "password": password})


async def _from(console: Consoled, address: str) -> httpx.AsyncClient:
    """A client of another machine."""
    transport = httpx.ASGITransport(console.app, False, client=(address, 1))
    made = httpx.AsyncClient(transport=transport, base_url=URL)
    return await console.closing.enter_async_context(made)


@pytest.fixture
def hashed(console: Consoled, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The hashes that passwords were compared with."""
    seen: list[str | None] = []
    verify = console.services.passwords._hash.verify_and_update

    def counting(password: str, stored: str) -> tuple[bool, str | None]:
        seen.append(stored)
        return verify(password, stored)

    monkeypatch.setattr(console.services.passwords._hash, "verify_and_update", counting)
    return seen


async def test_an_account_that_was_tried_too_often_is_closed_to_all_for_a_while(
    console: Consoled,
) -> None:
    await console.user(Role.ADMIN)
    await console.user(Role.VIEWER)
    here, there = await _from(console, "192.0.2.1"), await _from(console, "198.51.100.7")
    wrong = [await _try(here, "Admin ") for _ in range(OF_ACCOUNT.amount)]
    assert {one.status_code for one in wrong} == {401}
    for client in (here, there):
        refused = await _try(client, "admin", PASSWORD)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 300
    page = await here.post(
        "/login",
        data={"name": "admin", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert page.status_code == 429
    assert (await _try(here, "viewer", PASSWORD)).status_code == 201


async def test_an_address_that_tried_too_often_is_refused_for_every_name(
    console: Consoled,
) -> None:
    await console.user(Role.VIEWER)
    here, there = await _from(console, "2001:db8::1"), await _from(console, "2001:db8:1::1")
    tries = [await _try(here, f"somebody-{number}") for number in range(FROM_ADDRESS.amount)]
    assert {one.status_code for one in tries} == {401}
    neighbour = await _from(console, "2001:db8::ffff")  # of the same /64
    for client in (here, neighbour):
        assert (await _try(client, "viewer", PASSWORD)).status_code == 429
    assert (await _try(there, "viewer", PASSWORD)).status_code == 201


async def test_of_a_flood_no_more_passwords_are_looked_at_than_the_limit(
    console: Consoled, hashed: list[str | None]
) -> None:
    await console.user(Role.ADMIN)
    hashed.clear()
    client = await console.client()
    answers = await asyncio.gather(*(_try(client, "admin") for _ in range(40)))
    statuses = [one.status_code for one in answers]
    assert statuses.count(401) == len(hashed) == OF_ACCOUNT.amount
    assert statuses.count(429) == 40 - OF_ACCOUNT.amount


async def test_a_right_password_opens_the_account_again(console: Consoled) -> None:
    await console.user(Role.ADMIN)
    client = await console.client()
    for _ in range(2):
        for _ in range(OF_ACCOUNT.amount - 1):
            assert (await _try(client, "admin")).status_code == 401
        assert (await _try(client, "admin", PASSWORD)).status_code == 201


@pytest.fixture
async def without_redis(
    tmp_path: Path, mongo_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Consoled]:
    """A console whose Redis is away."""
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    configured = console_config(tmp_path, mongo_database_url, "redis://127.0.0.1:1/0")
    async with running_console(configured) as running:
        yield running


async def test_while_redis_is_away_tries_are_counted_all_the_same(
    without_redis: Consoled,
) -> None:
    await without_redis.user(Role.ADMIN)
    client = await without_redis.client()
    wrong = [(await _try(client, "admin")).status_code for _ in range(OF_ACCOUNT.amount + 1)]
    assert wrong == [401] * OF_ACCOUNT.amount + [429]


async def test_nobody_learns_from_answer_or_work_which_names_there_are(
    console: Consoled, hashed: list[str | None]
) -> None:
    await console.user(Role.ADMIN)
    disabled = await console.user(Role.VIEWER, "disabled")
    await console.services.users.create(SHELL, _new("without-password"))
    admin = await console.logged_in(Role.ADMIN)
    address = f"/api/v1/users/{console.ids[disabled]}"
    version = {"If-Match": (await admin.get(address)).headers["etag"]}
    await admin.patch(address, json={"disabled": True}, headers=version)
    client, told = await console.client(), set()
    for name in ("admin", "nobody", disabled, "without-password", "a\x00b"):
        hashed.clear()
        password = PASSWORD if name == disabled else WRONG
        answer = await _try(client, name, password)
        told.add((answer.status_code, answer.text))
        assert len(hashed) == 1, name
    assert len(told) == 1
    long = {(await _try(client, name, "x" * 500)).text for name in ("admin", "nobody")}
    assert len(long) == 1


def _new(name: str) -> NewUser:
    return NewUser(name=name, role=Role.VIEWER)


async def test_a_user_without_a_password_is_let_in_by_none(console: Consoled) -> None:
    await console.services.users.create(SHELL, _new("mai"))
    client = await console.client()
    for password in ("", " ", "None", "nobody has this password"):
        assert (await _try(client, "mai", password)).status_code == 401
    assert await console.services.passwords.verify("x", None) == Verdict(False, None)


SITES = ("same-origin", "same-site", "cross-site", "none", None)
KNOWN, EVIL = "https://status.example", "https://evil.example"
CREDENTIALS = ("cookie", "bearer", "both", "nothing")


async def test_what_another_sites_page_causes_is_refused_in_each_combination(
    console: Consoled,
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await admin.post("/api/v1/origins", json={"origin": KNOWN})
    cookie = f"rowrelay={admin.cookies['rowrelay']}"
    bearer = f"Bearer {(await _try(admin, 'admin', PASSWORD)).json()['access_token']}"
    sent = {
        "cookie": {"Cookie": cookie},
        "bearer": {"Authorization": bearer},
        "both": {"Cookie": cookie, "Authorization": bearer},
        "nothing": {},
    }
    browser = httpx.AsyncClient(
        transport=httpx.ASGITransport(console.app, raise_app_exceptions=False), base_url=URL
    )
    for site, origin, kind in product(SITES, (URL, KNOWN, EVIL, "null", None), CREDENTIALS):
        headers = dict(sent[kind])
        if site:
            headers["Sec-Fetch-Site"] = site
        if origin:
            headers["Origin"] = origin
        by_api = await browser.post(f"{ME}/password", json={}, headers=headers)
        by_page = await browser.post("/no-such-page", headers=headers)
        told = (site, origin, kind)
        assert (by_api.status_code != 403) == _api_may(site, origin, kind), told
        assert (by_page.status_code != 403) == _page_may(site, origin), told
        assert by_api.status_code in {403, 401 if kind == "nothing" else 422}, told
    await browser.aclose()


def _api_may(site: str | None, origin: str | None, kind: str) -> bool:
    """Ours and known origins' pages, and what is no page."""
    if site is None and origin is None:
        return kind != "cookie"
    return _page_may(site, origin) or origin == KNOWN


def _page_may(site: str | None, origin: str | None) -> bool:
    """Our own pages alone."""
    return site == "same-origin" or (site is None and origin == URL)


async def test_a_read_tells_another_sites_page_nothing(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    read = await viewer.get(ME, headers={"Origin": EVIL, "Sec-Fetch-Site": "same-site"})
    assert not [name for name in read.headers if name.startswith("access-control")]
    assert read.headers["cross-origin-resource-policy"] == "same-origin"
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["cache-control"] == "no-store"


async def test_a_credential_is_taken_from_its_place_alone(console: Consoled) -> None:
    admin, nobody = await console.logged_in(Role.ADMIN), await console.client()
    secret = admin.cookies["rowrelay"]
    access = (await _try(admin, "admin", PASSWORD)).json()["access_token"]
    tries: tuple[dict[str, str], ...] = (
        {"Authorization": f"Bearer {secret}"},
        {"Authorization": f"Basic {access}"},
        {"Authorization": access},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer rr_{secret}"},
        {"Cookie": f"rowrelay={access}"},
        {"Cookie": f"__Host-rowrelay={secret}"},
        {"Cookie": "rowrelay="},
        {"X-Forwarded-User": "admin"},
    )
    for headers in tries:
        assert (await nobody.get(ME, headers=headers)).status_code == 401, headers
    assert (await nobody.get(ME, params={"access_token": access})).status_code == 401
    wins = await admin.get(ME, headers={"Authorization": "Bearer x"})
    assert wins.status_code == 401, "what is sent on purpose is not passed over for the cookie"


async def test_nobody_gives_himself_a_role(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    version = {"If-Match": (await viewer.get(ME)).headers["etag"]}
    for field in ({"role": "admin"}, {"id": "0" * 32}, {"disabled": False}, {"version": 9}):
        assert (await viewer.patch(ME, json=field, headers=version)).status_code == 422
    own = f"/api/v1/users/{console.ids['viewer']}"
    assert (await viewer.patch(own, json={"role": "admin"}, headers=version)).status_code == 403
    assert (await viewer.get(ME)).json()["role"] == "viewer"


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_path_that_leads_away_is_not_gone_to(text: str) -> None:
    assert safe_path(text) == "/"


@pytest.mark.parametrize("text", ["/", "/deliveries?q=a%2Fb&state=dead", "/deliveries/abc#x"])
def test_a_path_of_ours_is_gone_to(text: str) -> None:
    assert safe_path(text) == text


async def test_a_login_leads_to_a_page_of_ours(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for text in ELSEWHERE:
        form = {"name": "viewer", "password": PASSWORD, "next": text}
        for answer in (
            await viewer.post("/login", data=form),
            await viewer.get("/login", params={"next": text}),
        ):
            assert answer.status_code == 303
            assert answer.headers["location"] == "/"
    nobody = await console.client()
    for path in ("//evil.example/", "/audit?next=//evil.example"):
        asked = await nobody.get(path)
        assert not urlsplit(asked.headers.get("location", "")).netloc


async def test_odd_text_breaks_no_endpoint(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    for text in ODD:
        answers = (
            await admin.get("/api/v1/users", params={"after": text}),
            await admin.get("/api/v1/audit", params={"subject": text}),
            await admin.get("/api/v1/sessions", params={"user": text}),
            await admin.get("/api/v1/deliveries", params={"q": text}),
            await _try(admin, text),
            await admin.post("/api/v1/tokens/refresh", json={"refresh_token": text}),
            await admin.post("/api/v1/users", json={"name": text, "role": text}),
            await admin.post("/api/v1/origins", json={"origin": text, "note": text}),
            await admin.post("/login", data={"name": text, "password": text, "next": text}),
            await admin.get(ME, headers=[(b"If-Match", text.encode())]),
        )
        assert [one.status_code for one in answers if one.status_code >= 500] == [], text


async def test_pages_allow_no_inline_script_and_no_frame(console: Consoled) -> None:
    for path in ("/login", "/welcome/x", "/no-such-page"):
        page = await (await console.client()).get(path)
        assert page.headers["content-security-policy"] == POLICY
        assert page.headers["x-frame-options"] == "DENY"
        assert "<script>" not in page.text
        assert "style=" not in page.text
    assert "unsafe" not in POLICY


async def test_behind_tls_the_cookie_is_tied_to_the_host(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    configured = console_config(tmp_path, mongo_database_url, clean_redis_url)
    async with running_console(configured, "https://console.example") as console:
        await console.user(Role.VIEWER)
        client = await console.client()
        form = {"name": "viewer", "password": PASSWORD}
        begun = await client.post("/login", data=form)
        cookie = begun.headers["set-cookie"]
        assert cookie.startswith("__Host-rowrelay=")
        assert all(flag in cookie for flag in ("Secure", "HttpOnly", "Path=/"))
        assert begun.headers["strict-transport-security"] == "max-age=31536000"
        secret = cookie.partition("=")[2].partition(";")[0]
        session = {"Cookie": f"__Host-rowrelay={secret}"}
        told = await client.post("/profile/sessions/end-others", headers=session)
        assert told.headers["set-cookie"].startswith("rowrelay-notice=")
        assert "Secure" in told.headers["set-cookie"]
        gone = await client.post("/logout", headers=session)
        assert gone.status_code == 303
        assert "Secure" in gone.headers["set-cookie"], "else a browser does not take it away"
