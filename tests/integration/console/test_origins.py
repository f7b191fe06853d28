"""Origins: whose pages may call the API from a browser, at once and no longer than they are let in."""

from __future__ import annotations

import httpx
import pytest

from app.console.origins.normal import normal_origin
from app.console.security.roles import Role
from tests.support.console import PASSWORD, Consoled

ORIGINS, ME = "/api/v1/origins", "/api/v1/users/me"
PAGE = "https://status.example"
CROSS = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}


async def _let_in(admin: httpx.AsyncClient, origin: str = PAGE) -> httpx.Response:
    made = await admin.post(ORIGINS, json={"origin": origin, "note": "status page"})
    assert made.status_code == 201, made.text
    return made


async def _preflight(client: httpx.AsyncClient, path: str = ME, **headers: str) -> httpx.Response:
    asks = {"Access-Control-Request-Method": "PATCH"}
    return await client.options(path, headers=CROSS | asks | headers)


def _cors(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control-")}


async def test_an_origin_is_let_in_at_once_and_no_longer_than_it_is_there(
    console: Consoled,
) -> None:
    admin, page = await console.logged_in(Role.ADMIN), await console.client()
    refused = await _preflight(page)
    assert (refused.status_code, _cors(refused)) == (403, {})
    made = await _let_in(admin)
    let_in = await _preflight(page)
    assert let_in.status_code == 204
    assert let_in.headers["access-control-allow-origin"] == PAGE
    assert let_in.headers["access-control-allow-credentials"] == "true"
    assert "PATCH" in let_in.headers["access-control-allow-methods"]
    address, version = f"{ORIGINS}/{made.json()['id']}", {"If-Match": made.headers["etag"]}
    changed = await admin.patch(address, json={"enabled": False}, headers=version)
    assert (await _preflight(page)).status_code == 403
    assert (await admin.delete(address, headers=version)).status_code == 412
    version = {"If-Match": changed.headers["etag"]}
    changed = await admin.patch(address, json={"enabled": True}, headers=version)
    assert (await _preflight(page)).status_code == 204
    version = {"If-Match": changed.headers["etag"]}
    assert (await admin.delete(address)).status_code == 428
    assert (await admin.delete(address, headers=version)).status_code == 204
    assert (await _preflight(page)).status_code == 403


async def test_a_page_of_a_known_origin_logs_in_and_reads_and_another_does_neither(
    console: Consoled,
) -> None:
    admin, page = await console.logged_in(Role.ADMIN), await console.client()
    await _let_in(admin)
    login = {"name": "admin", "password": PASSWORD}
    issued = await page.post("/api/v1/tokens", json=login, headers=CROSS)
    assert issued.status_code == 201
    bearer = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    read = await page.get(ME, headers=CROSS | bearer)
    assert read.headers["access-control-allow-origin"] == PAGE
    assert "ETag" in read.headers["access-control-expose-headers"]
    other = CROSS | {"Origin": "https://evil.example"}
    refused = await page.post("/api/v1/tokens", json=login, headers=other)
    assert (refused.status_code, _cors(refused)) == (403, {})
    unread = await page.get(ME, headers=other | bearer)
    assert _cors(unread) == {}


async def test_errors_are_told_to_a_known_origin_too(console: Consoled) -> None:
    admin, page = await console.logged_in(Role.ADMIN), await console.client()
    await _let_in(admin)

    async def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    console.services.users.list = breaks  # type: ignore[assignment, method-assign] # a fault of ours
    answers = (
        (401, await page.get(ME, headers=CROSS)),
        (404, await page.get("/api/v1/nothing", headers=CROSS)),
        (405, await page.delete(ME, headers=CROSS)),
        (422, await page.post("/api/v1/tokens", json={}, headers=CROSS)),
        (500, await admin.get("/api/v1/users", headers=CROSS)),
    )
    for status, answer in answers:
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Origin" in answer.headers["vary"]
        assert "content-security-policy" in answer.headers


async def test_pages_are_let_in_from_nowhere(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await _let_in(admin)
    for path in ("/login", "/health/live", "/static/console.css"):
        assert _cors(await _preflight(admin, path)) == {}
        assert _cors(await admin.get(path, headers=CROSS)) == {}
    form = {"name": "admin", "password": PASSWORD}
    assert (await admin.post("/login", data=form, headers=CROSS)).status_code == 403


async def test_every_answer_of_the_api_varies_by_origin(console: Consoled) -> None:
    nobody = await console.client()
    for path in (ME, "/api/v1/openapi.json", "/api/v1/nothing"):
        assert "Origin" in (await nobody.get(path)).headers["vary"]


async def test_two_origins_of_one_text_are_refused(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await _let_in(admin)
    again = await admin.post(ORIGINS, json={"origin": "HTTPS://Status.Example:443/"})
    assert (again.status_code, "there already" in again.json()["detail"]) == (409, True)
    other = await _let_in(admin, "https://other.example")
    version = {"If-Match": other.headers["etag"]}
    address = f"{ORIGINS}/{other.json()['id']}"
    assert (await admin.patch(address, json={"origin": PAGE}, headers=version)).status_code == 409
    listed = (await admin.get(ORIGINS, params={"limit": 1})).json()
    rest = (await admin.get(ORIGINS, params={"after": listed["next"]})).json()
    assert [one["origin"] for one in listed["items"] + rest["items"]] == [
        "https://other.example", PAGE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Status.Example", "https://status.example"),
        ("https://status.example:443", "https://status.example"),
        ("https://status.example:8443/", "https://status.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("https://[2001:DB8::0:1]:8443", "https://[2001:db8::1]:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(written: str, sent: str) -> None:
    assert normal_origin(written) == sent


@pytest.mark.parametrize(
    "written",
    [
        "",
        "*",
        "null",
        "https://*",
        "https://*.example",
        "status.example",
        "//status.example",
        "http://status.example",
        "https://status.example/path",
        "https://status.example?x",
        "https://status.example#x",
        "https://me@status.example",
        "https://status.example:",
        "https://status.example:0",
        "https://status.example:99999",
        "https://status.example.",
        "https:// status.example",
        "https://status.example\n",
        "https://bücher.example",
        "https://1.2.3",
        "https://0x7f.1",
        "https://[::1",
        "ftp://status.example",
        "https://",
        "https://a..b",
        "https://status.example,https://other.example",
        "file:///x",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        normal_origin(written)
