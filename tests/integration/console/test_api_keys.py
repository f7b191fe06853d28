"""API keys: shown once, limited to a role, and never able to make themselves last."""

from __future__ import annotations

from datetime import timedelta

from app.console.security.roles import Role
from app.core.clock import utc_now
from tests.support.console import PASSWORD, Consoled

KEYS, ME = "/api/v1/api-keys", "/api/v1/users/me"


async def _key(console: Consoled, role: str = "viewer", **more: object) -> tuple[str, str]:
    """Its id and the key."""
    admin = await console.logged_in(Role.ADMIN)
    made = await admin.post(KEYS, json={"name": "scraper", "role": role} | more)
    assert made.status_code == 201, made.text
    return made.json()["key"]["id"], made.json()["secret"]


async def test_a_key_is_shown_once_and_comes_in_until_it_is_revoked(console: Consoled) -> None:
    key_id, secret = await _key(console)
    admin, machine = await console.logged_in(Role.ADMIN), await console.client()
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await machine.get(ME, headers=headers)).json()["name"] == "admin"
    listed = await admin.get(KEYS)
    (shown,) = listed.json()["items"]
    assert secret not in listed.text
    assert secret.startswith(shown["prefix"])
    assert (shown["owner"], shown["role"]) == ("admin", "viewer")
    assert shown["last_used_at"] is not None
    assert (await admin.delete(f"{KEYS}/{key_id}")).status_code == 204
    assert (await admin.delete(f"{KEYS}/{key_id}")).status_code == 404
    assert (await machine.get(ME, headers=headers)).status_code == 401
    (shown,) = (await admin.get(KEYS)).json()["items"]
    assert shown["revoked_at"] is not None


async def test_a_key_may_do_no_more_than_its_role_and_its_owner(console: Consoled) -> None:
    _, secret = await _key(console, "viewer")
    machine = await console.client()
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await machine.get("/api/v1/users", headers=headers)).status_code == 403
    viewer = await console.logged_in(Role.VIEWER)
    assert (await viewer.post(KEYS, json={"name": "x", "role": "viewer"})).status_code == 403


async def test_a_key_of_an_admin_manages_no_users_keys_profiles_or_sessions(
    console: Consoled,
) -> None:
    _, secret = await _key(console, "admin")
    machine = await console.client()
    machine.headers["Authorization"] = f"Bearer {secret}"
    version = {"If-Match": (await machine.get(ME)).headers["etag"]}
    password = {"current": PASSWORD, "new": PASSWORD + " new"}
    refused = (
        await machine.post(f"{ME}/password", json=password),
        await machine.patch(ME, json={"email": "thief@evil.example"}, headers=version),
        await machine.post(KEYS, json={"name": "another", "role": "viewer"}),
        await machine.get(KEYS),
        await machine.get("/api/v1/users"),
        await machine.post("/api/v1/users", json={"name": "thief", "role": "admin"}),
        await machine.post(f"/api/v1/users/{console.ids['admin']}/link"),
        await machine.get("/api/v1/sessions"),
        await machine.delete(f"/api/v1/sessions/{'0' * 32}"),
        await machine.get("/api/v1/tokens", params={"all": True}),
    )
    assert [one.status_code for one in refused] == [403] * len(refused)
    assert all("API key" in one.json()["detail"] for one in refused)


async def test_a_key_ends_with_its_expiry_and_with_its_owner(console: Consoled) -> None:
    soon = utc_now() + timedelta(days=1)
    _, secret = await _key(console, expires_at=soon.isoformat())
    machine, admin = await console.client(), await console.logged_in(Role.ADMIN, "other")
    headers = {"Authorization": f"Bearer {secret}"}
    assert (await machine.get(ME, headers=headers)).status_code == 200
    console.services.authentication._now = lambda: soon
    assert (await machine.get(ME, headers=headers)).status_code == 401
    console.services.authentication._now = utc_now
    address = f"/api/v1/users/{console.ids['admin']}"
    version = {"If-Match": (await admin.get(address)).headers["etag"]}
    disabled = await admin.patch(address, json={"disabled": True}, headers=version)
    assert disabled.status_code == 200
    assert (await machine.get(ME, headers=headers)).status_code == 401
    past = {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}
    assert (await admin.post(KEYS, json=past)).status_code == 422


async def test_keys_that_ended_long_ago_are_pruned(console: Consoled) -> None:
    key_id, _ = await _key(console)
    await _key(console)
    admin, keys = await console.logged_in(Role.ADMIN), console.services.api_keys
    await admin.delete(f"{KEYS}/{key_id}")
    assert await keys.prune() == 0
    keys._now = lambda: utc_now() + timedelta(days=91)
    assert await keys.prune() == 1
