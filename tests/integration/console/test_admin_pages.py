"""Pages of administration and profile: forms that keep what was typed, secrets that are shown once, and no
text that becomes markup."""

from __future__ import annotations

import re

import pytest

from app.console.security.roles import Permission, Role
from app.console.sessions.service import Caller
from tests.support.console import PASSWORD, Consoled
from tests.support.harmless import assert_harmless
from tests.support.hostile import SCRIPTS
from tests.support.statements import statements

ADMIN_PAGES = ("/admin/users", "/admin/sessions", "/admin/tokens", "/admin/origins")


async def test_a_user_is_made_on_the_page_and_the_link_is_shown_once(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    made = await admin.post("/admin/users", data={"name": "Mai", "role": "viewer", "email": ""})
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    [path] = re.findall(r"/welcome/[\w-]+", made.text)
    somebody = await console.client()
    form = {"password": PASSWORD, "again": PASSWORD}
    assert (await somebody.post(path, data=form)).status_code == 303
    assert path not in (await admin.get("/admin/users")).text


async def test_a_form_that_is_refused_keeps_what_was_typed_and_says_what_is_wrong(
    console: Consoled,
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    typed = {"name": "no blanks", "display_name": "Vy", "email": "nobody", "role": "viewer"}
    page = await admin.post("/admin/users", data=typed)
    assert page.status_code == 422
    assert 'value="no blanks"' in page.text
    assert 'value="Vy"' in page.text
    assert page.text.count('role="alert"') == 2
    taken = await admin.post("/admin/users", data={"name": "admin", "role": "viewer"})
    assert (taken.status_code, "there is a user of that name" in taken.text) == (409, True)
    origin = await admin.post("/admin/origins", data={"origin": "https://a.example/path"})
    assert (origin.status_code, 'value="https://a.example/path"' in origin.text) == (422, True)


async def test_who_changed_an_older_version_sees_what_is_there_now_and_what_they_typed(
    console: Consoled,
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await console.user(Role.VIEWER)
    address = f"/admin/users/{console.ids['viewer']}"
    version = _version((await admin.get(address)).text)
    first = {"display_name": "First", "role": "viewer", "version": version}
    assert (await admin.post(address, data=first)).status_code == 303
    stale = await admin.post(address, data=first | {"display_name": "Second"})
    assert stale.status_code == 412
    assert "<dd>First</dd>" in stale.text
    assert 'value="Second"' in stale.text
    again = first | {"display_name": "Second", "version": _version(stale.text)}
    assert (await admin.post(address, data=again)).status_code == 303
    assert 'value="Second"' in (await admin.get(address)).text
    for nonsense in ("", "x", "9" * 30):
        refused = await admin.post(address, data=first | {"version": nonsense})
        assert refused.status_code == 412


async def test_a_user_is_disabled_enabled_and_given_a_new_link(console: Consoled) -> None:
    admin, viewer = await console.logged_in(Role.ADMIN), await console.logged_in(Role.VIEWER)
    address = f"/admin/users/{console.ids['viewer']}"
    form = {"disabled": "on", "version": _version((await admin.get(address)).text)}
    assert (await admin.post(f"{address}/state", data=form)).status_code == 303
    assert (await viewer.get("/profile")).headers["location"].startswith("/login")
    assert (await admin.post(f"{address}/link")).status_code == 409
    form = {"version": _version((await admin.get(address)).text)}
    assert (await admin.post(f"{address}/state", data=form)).status_code == 303
    assert "/welcome/" in (await admin.post(f"{address}/link")).text


async def test_the_last_admin_cannot_be_disabled_on_the_page(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    address = f"/admin/users/{console.ids['admin']}"
    form = {"disabled": "on", "version": _version((await admin.get(address)).text)}
    refused = await admin.post(f"{address}/state", data=form)
    assert (refused.status_code, "make another admin first" in refused.text) == (409, True)


async def test_an_origin_is_added_changed_disabled_and_deleted(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    form = {"origin": "https://status.example", "note": "the status page"}
    assert (await admin.post("/admin/origins", data=form)).status_code == 303
    assert await console.services.origins.is_known("https://status.example")
    [address] = re.findall(r"/admin/origins/[0-9a-f]{32}", (await admin.get("/admin/origins")).text)
    version = _version((await admin.get(address)).text)
    assert (await admin.post(address, data=form | {"version": version})).status_code == 303
    assert not await console.services.origins.is_known("https://status.example")
    stale = await admin.post(f"{address}/delete", data={"version": version})
    assert stale.status_code == 412
    assert "disabled" in stale.text
    form = {"version": _version(stale.text)}
    assert (await admin.post(f"{address}/delete", data=form)).status_code == 303
    assert (await admin.get(address)).status_code == 404


async def test_a_key_is_shown_once_and_refused_once_it_is_revoked(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    form = {"name": "grafana", "role": "viewer", "days": "30"}
    made = await admin.post("/admin/tokens", data=form)
    assert made.headers["cache-control"] == "no-store"
    [secret] = re.findall(r"rr_[\w-]{43}", made.text)
    listed = (await admin.get("/admin/tokens")).text
    assert secret not in listed
    assert secret[:10] in listed
    machine, bearer = await console.client(), {"Authorization": f"Bearer {secret}"}
    assert (await machine.get("/api/v1/users/me", headers=bearer)).status_code == 200
    [revoke] = re.findall(r"/admin/tokens/keys/\w+/revoke", listed)
    assert (await admin.post(revoke)).status_code == 303
    assert (await machine.get("/api/v1/users/me", headers=bearer)).status_code == 401
    wrong = await admin.post("/admin/tokens", data=form | {"days": "31"})
    assert (wrong.status_code, 'value="grafana"' in wrong.text) == (422, True)


async def test_a_program_is_logged_out_on_the_page(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    issued = await console.services.tokens.log_in("admin", PASSWORD, Caller("127.0.0.1", "cron"))
    program, bearer = await console.client(), {"Authorization": f"Bearer {issued.access}"}
    assert (await program.get("/api/v1/users/me", headers=bearer)).status_code == 200
    page = (await admin.get("/admin/tokens")).text
    assert "cron" in page
    [end] = re.findall(r"/admin/tokens/programs/\w+/end", page)
    assert (await admin.post(end)).status_code == 303
    assert (await program.get("/api/v1/users/me", headers=bearer)).status_code == 401


async def test_an_admin_ends_somebodys_session(console: Consoled) -> None:
    admin, viewer = await console.logged_in(Role.ADMIN), await console.logged_in(Role.VIEWER)
    page = await admin.get("/admin/sessions", params={"user": console.ids["viewer"]})
    [end] = re.findall(r"/admin/sessions/\w+/end", page.text)
    assert (await admin.post(end)).status_code == 303
    assert (await viewer.get("/profile")).headers["location"].startswith("/login")


async def test_a_profile_is_changed_and_pages_follow_it(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    form = {
        "display_name": "Vy", "email": "vy@example.org", "language": "vi", "theme": "dark",
        "time_zone": "Asia/Ho_Chi_Minh", "version": _version((await viewer.get("/profile")).text),
    }  # fmt: skip
    assert (await viewer.post("/profile", data=form | {"time_zone": "Mars"})).status_code == 422
    assert (await viewer.post("/profile", data=form)).status_code == 303
    page = (await viewer.get("/profile")).text
    assert '<html lang="vi" data-theme="dark">' in page
    stale = await viewer.post("/profile", data=form | {"display_name": "An"})
    assert (stale.status_code, "<dd>Vy</dd>" in stale.text) == (412, True)


async def test_a_new_password_and_the_button_end_every_other_session(console: Consoled) -> None:
    here, there = await console.logged_in(Role.VIEWER), await console.logged_in(Role.VIEWER)
    assert (await here.post("/profile/sessions/end-others")).status_code == 303
    assert (await there.get("/profile")).status_code == 303
    there = await console.logged_in(Role.VIEWER)
    new = {"current": PASSWORD, "new": "another long password", "again": "another long password"}
    for wrong in ({"current": "not it at all"}, {"again": "different"}, {"new": "x", "again": "x"}):
        refused = await here.post("/profile/password", data=new | wrong)
        assert (refused.status_code, 'role="alert"' in refused.text) == (422, True)
        assert PASSWORD not in refused.text
    assert (await there.get("/profile")).status_code == 200
    assert (await here.post("/profile/password", data=new)).status_code == 303
    assert (await there.get("/profile")).status_code == 303
    assert (await here.get("/profile")).status_code == 200


async def test_the_permissions_page_tells_what_the_reader_may_and_why_not(
    console: Consoled,
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    page = (await viewer.get("/permissions")).text
    for permission in Permission:
        assert permission.value in page
    assert "to manage users takes the role admin; yours is viewer" in page


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_pages_of_admins_are_refused_to_others(console: Consoled, role: Role) -> None:
    other, nobody = await console.logged_in(role), await console.client()
    for address in ADMIN_PAGES:
        assert (await other.get(address)).status_code == 403, address
        assert (await other.post(address, data={"name": "x"})).status_code in {403, 405}, address
        assert (await nobody.get(address)).headers["location"].startswith("/login"), address


async def test_lists_ask_as_much_for_many_as_for_one(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    engine, asked = console.services.store.engine, dict[str, int]()
    for address in ADMIN_PAGES:
        with statements(engine) as sent:
            await admin.get(address)
        asked[address] = len(sent)
    for number in range(4):
        await console.logged_in(Role.VIEWER, f"viewer-{number}")
        await admin.post("/admin/origins", data={"origin": f"https://{number}.example"})
        form = {"name": f"key {number}", "role": "viewer", "days": ""}
        await admin.post("/admin/tokens", data=form)
    for address in ADMIN_PAGES:
        with statements(engine) as sent:
            await admin.get(address)
        assert len(sent) == asked[address], address


async def test_hostile_text_in_any_form_is_shown_as_text(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    for number, text in enumerate(SCRIPTS):
        form = {"name": text, "display_name": text, "email": text, "role": text}
        assert_harmless(await admin.post("/admin/users", data=form), shows=True)
        named = {"name": f"user{number}", "display_name": text[:100], "role": "viewer"}
        assert_harmless(await admin.post("/admin/users", data=named))
        assert_harmless(await admin.post("/admin/origins", data={"origin": text, "note": text}))
        good = {"origin": f"https://{number}.example", "note": text}
        assert (await admin.post("/admin/origins", data=good)).status_code == 303
        assert_harmless(await admin.post("/admin/tokens", data={"name": text, "role": text}))
        made = {"name": text[:100], "role": "viewer", "days": ""}
        assert_harmless(await admin.post("/admin/tokens", data=made), shows=True)
        caller = Caller(text[:64], text)
        await console.services.sessions.log_in("admin", PASSWORD, caller)
        await console.services.tokens.log_in("admin", PASSWORD, caller)
    for address in (*ADMIN_PAGES, "/profile"):
        assert_harmless(await admin.get(address), shows=True)
    names = ("display_name", "email", "time_zone", "language", "theme")
    typed = dict.fromkeys(names, SCRIPTS[1])
    assert_harmless(await admin.post("/profile", data=typed), shows=True)


def _version(page: str) -> str:
    return str(re.findall(r'name="version" value="(\d+)"', page)[0])
