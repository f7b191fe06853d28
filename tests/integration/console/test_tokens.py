"""Programs: an access token for ten minutes, refresh tokens that are used once, and a logout that holds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import jwt

from app.console.security.access_tokens import AccessTokens
from app.console.security.roles import Role
from app.console.tokens.repository import TokenRepository
from app.core.clock import utc_now
from tests.support.console import PASSWORD, Consoled

ME = "/api/v1/users/me"


async def _program(console: Consoled, name: str = "operator") -> dict[str, str]:
    await console.user(Role(name))
    nobody = await console.client()
    given = await nobody.post("/api/v1/tokens", json={"name": name, "password": PASSWORD})
    assert given.status_code == 201
    issued: dict[str, str] = given.json()
    return issued


def _bearer(issued: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {issued['access_token']}"}


async def _refresh(console: Consoled, issued: dict[str, str]) -> httpx.Response:
    nobody = await console.client()
    body = {"refresh_token": issued["refresh_token"]}
    return await nobody.post("/api/v1/tokens/refresh", json=body)


async def test_a_program_logs_in_refreshes_and_logs_out(console: Consoled) -> None:
    issued, nobody = await _program(console), await console.client()
    assert 590 <= int(issued["expires_in"]) <= 600
    assert (await nobody.get(ME, headers=_bearer(issued))).json()["name"] == "operator"
    following = (await _refresh(console, issued)).json()
    assert following["family"] == issued["family"]
    assert (await nobody.get(ME, headers=_bearer(following))).status_code == 200
    revoked = await nobody.post("/api/v1/tokens/revoke", headers=_bearer(following))
    assert revoked.status_code == 204
    for one in (issued, following):  # also the one before, which has not expired
        assert (await nobody.get(ME, headers=_bearer(one))).status_code == 401
    assert (await _refresh(console, following)).status_code == 401


async def test_a_refresh_token_that_is_used_twice_ends_the_login_and_its_access_tokens(
    console: Consoled,
) -> None:
    issued, nobody = await _program(console), await console.client()
    following = (await _refresh(console, issued)).json()
    stolen = await _refresh(console, issued)
    assert (stolen.status_code, "used before" in stolen.json()["detail"]) == (401, True)
    for one in (issued, following):
        assert (await nobody.get(ME, headers=_bearer(one))).status_code == 401
    assert (await _refresh(console, following)).status_code == 401
    other = await _program(console)
    assert (await nobody.get(ME, headers=_bearer(other))).status_code == 200


async def test_of_two_refreshes_at_the_same_moment_none_outlives_the_other(
    console: Consoled,
) -> None:
    issued, nobody = await _program(console), await console.client()
    both = await asyncio.gather(*(_refresh(console, issued) for _ in range(2)))
    assert sorted(one.status_code for one in both) == [201, 401]
    won = next(one.json() for one in both if one.status_code == 201)
    assert (await nobody.get(ME, headers=_bearer(won))).status_code == 401
    assert (await _refresh(console, won)).status_code == 401


async def test_a_refresh_token_logs_out_when_the_access_token_has_expired(
    console: Consoled,
) -> None:
    issued, nobody = await _program(console), await console.client()
    body = {"refresh_token": issued["refresh_token"]}
    assert (await nobody.post("/api/v1/tokens/revoke", json=body)).status_code == 204
    assert (await nobody.get(ME, headers=_bearer(issued))).status_code == 401
    body = {"refresh_token": "x" * 43}
    assert (await nobody.post("/api/v1/tokens/revoke", json=body)).status_code == 204
    assert (await nobody.post("/api/v1/tokens/revoke")).status_code == 401


async def test_a_token_of_another_secret_algorithm_issuer_or_time_is_refused(
    console: Consoled,
) -> None:
    issued, nobody = await _program(console), await console.client()
    secret = console.services.access_tokens._secret
    claims = jwt.decode(issued["access_token"], options={"verify_signature": False})
    past = AccessTokens(secret, lambda: utc_now() - timedelta(minutes=11))
    unsigned = jwt.encode(claims, "", algorithm="none")
    forged = (
        unsigned,
        jwt.encode(claims, "another secret of forty characters, at least", "HS256"),
        jwt.encode(claims, secret * 2, "HS512"),
        jwt.encode(claims | {"iss": "another"}, secret, "HS256"),
        jwt.encode({name: claims[name] for name in ("iss", "sub", "iat", "exp")}, secret, "HS256"),
        past.issue(claims["sub"])[0],
        issued["access_token"][:-2],
        issued["refresh_token"],
        "",
    )
    for text in forged:
        answer = await nobody.get(ME, headers={"Authorization": f"Bearer {text}"})
        assert (answer.status_code, text) == (401, text)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await nobody.get(ME, headers=_bearer(issued))).status_code == 200


async def test_whoever_is_disabled_or_has_a_new_role_or_password_loses_programs_too(
    console: Consoled,
) -> None:
    admin, nobody = await console.logged_in(Role.ADMIN), await console.client()
    issued = await _program(console)
    address = f"/api/v1/users/{console.ids['operator']}"
    for change in ({"role": "viewer"}, {"disabled": True}):
        headers = {"If-Match": (await admin.get(address)).headers["etag"]}
        assert (await nobody.get(ME, headers=_bearer(issued))).status_code == 200
        assert (await admin.patch(address, json=change, headers=headers)).status_code == 200
        assert (await nobody.get(ME, headers=_bearer(issued))).status_code == 401
        assert (await _refresh(console, issued)).status_code == 401
        login = {"name": "operator", "password": PASSWORD}
        again = await nobody.post("/api/v1/tokens", json=login)
        issued = again.json()
    assert again.status_code == 401
    viewer = await _program(console, "viewer")
    change = {"current": PASSWORD, "new": PASSWORD + " new"}
    path = f"{ME}/password"
    assert (await nobody.post(path, json=change, headers=_bearer(viewer))).status_code == 204
    assert (await nobody.get(ME, headers=_bearer(viewer))).status_code == 401


async def test_own_programs_are_listed_and_ended_and_an_admin_sees_all(console: Consoled) -> None:
    operators = await _program(console, "operator")
    viewer, admin = await console.logged_in(Role.VIEWER), await console.logged_in(Role.ADMIN)
    await _program(console, "viewer")
    listed = (await viewer.get("/api/v1/tokens")).json()["items"]
    assert [one["user"] for one in listed] == ["viewer"]
    assert (await viewer.get("/api/v1/tokens", params={"all": True})).status_code == 403
    of_operator = {"user": console.ids["operator"]}
    assert (await viewer.get("/api/v1/tokens", params=of_operator)).status_code == 403
    theirs = f"/api/v1/tokens/{operators['family']}"
    assert (await viewer.delete(theirs)).status_code == 404
    page = (await admin.get("/api/v1/tokens", params={"all": True, "limit": 1})).json()
    rest = await admin.get("/api/v1/tokens", params={"all": True, "after": page["next"]})
    assert {one["user"] for one in page["items"] + rest.json()["items"]} == {"operator", "viewer"}
    assert rest.json()["next"] is None
    of_operator_listed = (await admin.get("/api/v1/tokens", params=of_operator)).json()["items"]
    assert [one["family"] for one in of_operator_listed] == [operators["family"]]
    assert (await admin.delete(theirs)).status_code == 204
    assert (await _refresh(console, operators)).status_code == 401


async def test_what_has_expired_is_pruned_and_what_has_not_stays(console: Consoled) -> None:
    issued, now = await _program(console), utc_now()
    tokens, store = console.services.tokens, console.services.store
    await _refresh(console, issued)
    await _refresh(console, issued)  # the second use: its access tokens are refused
    assert await tokens.prune() == 0
    async with store.writing() as work:
        assert await TokenRepository(work).prune(now + timedelta(minutes=11), 100) == 2
        assert await TokenRepository(work).prune(now + timedelta(days=15), 1) == 1
        assert await TokenRepository(work).prune(now + timedelta(days=15), 100) == 1
