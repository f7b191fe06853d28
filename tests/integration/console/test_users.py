"""Users: made by an admin with a one-time link, changed by version, and never without an admin left."""

from __future__ import annotations

from app.console.security.roles import Role
from tests.support.console import PASSWORD, Consoled


async def test_a_one_time_link_sets_a_password_once(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    made = (await admin.post("/api/v1/users", json={"name": "Mai", "role": "Viewer"})).json()
    path = made["link"]["url"].removeprefix("http://127.0.0.1:8800")
    somebody = await console.client()
    form = {"password": PASSWORD, "again": PASSWORD}
    assert (await somebody.post(path, data=form)).status_code == 303
    assert (await somebody.get("/api/v1/users/me")).json()["name"] == "mai"
    assert (await somebody.post(path, data=form)).status_code == 404


async def test_an_edit_of_an_older_version_is_refused(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await console.user(Role.VIEWER)
    address = f"/api/v1/users/{console.ids['viewer']}"
    read = await admin.get(address)
    change = {"display_name": "Vy"}
    assert (await admin.patch(address, json=change)).status_code == 428
    headers = {"If-Match": read.headers["etag"]}
    assert (await admin.patch(address, json=change, headers=headers)).json()["display_name"] == "Vy"
    again = await admin.patch(address, json=change, headers=headers)
    assert again.status_code == 412
    assert again.headers["content-type"] == "application/problem+json"


async def test_the_last_admin_cannot_be_taken_away(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    address = f"/api/v1/users/{console.ids['admin']}"
    headers = {"If-Match": (await admin.get(address)).headers["etag"]}
    for change in ({"role": "viewer"}, {"disabled": True}):
        refused = await admin.patch(address, json=change, headers=headers)
        assert (refused.status_code, "admin" in refused.json()["detail"]) == (409, True)
    assert (await admin.get(address)).json()["role"] == "admin"


async def test_who_is_disabled_is_logged_out_at_once(console: Consoled) -> None:
    admin, viewer = await console.logged_in(Role.ADMIN), await console.logged_in(Role.VIEWER)
    assert (await viewer.get("/api/v1/users/me")).status_code == 200
    address = f"/api/v1/users/{console.ids['viewer']}"
    headers = {"If-Match": (await admin.get(address)).headers["etag"]}
    await admin.patch(address, json={"disabled": True}, headers=headers)
    assert (await viewer.get("/api/v1/users/me")).status_code == 401


async def test_every_change_is_on_record_and_the_chain_verifies(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await admin.post("/api/v1/users", json={"name": "mai", "role": "operator"})
    verified = await console.services.audit.verify()
    assert verified.wrong is None
    assert verified.entries >= 3
