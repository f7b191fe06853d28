"""What Python says on pages is said in the reader's language; what a partner said stays as it is."""

from __future__ import annotations

import httpx

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from tests.support.console import Consoled
from tests.support.console_ledger import NOW, attempt, delivery, put

GONE = "410 Gone: the endpoint is gone; check partner.url (delivery orders:1)"
SPENT = "attempts spent: 503 Service Unavailable"


async def reading_vietnamese(console: Consoled, role: Role) -> httpx.AsyncClient:
    """A browser of somebody who reads Vietnamese."""
    client = await console.logged_in(role, "linh")
    known = await client.get("/api/v1/users/me")
    version = {"If-Match": known.headers["ETag"]}
    answer = await client.patch("/api/v1/users/me", json={"language": "vi"}, headers=version)
    assert answer.json()["language"] == "vi"
    return client


async def test_reasons_that_the_ledger_keeps_are_told_in_the_readers_language(
    console: Consoled,
) -> None:
    last = {"at": NOW, "status": 503, "error": "503 Service Unavailable"}
    answered = "<h1>no tax id; mend it</h1>"
    await put(console, delivery(1, reason=SPENT, last=last), attempt("orders:1", response=answered))
    await console.services.operator.ledger.pauses.pause("orders", GONE)
    linh = await reading_vietnamese(console, Role.VIEWER)
    for address in ("/", "/feeds/orders"):
        page = (await linh.get(address)).text
        assert "410 Gone: điểm nhận không còn; hãy kiểm tra partner.url (lượt gửi orders:1)" in page
    listed = (await linh.get("/deliveries?state=dead")).text
    assert "đã hết số lần thử: 503 Service Unavailable" in listed
    assert "attempts spent" not in listed
    page = (await linh.get(f"/deliveries/{ref_of('orders:1')}")).text
    assert "đã hết số lần thử: 503 Service Unavailable" in page
    assert "no tax id; mend it" in page
    assert SPENT in (await linh.get("/api/v1/deliveries?state=dead")).text, (
        "a program is told as ever"
    )


async def test_refusals_are_told_in_the_readers_language(console: Consoled) -> None:
    await put(console, delivery(1))
    linh = await reading_vietnamese(console, Role.ADMIN)
    refused = [
        ("/admin/users", {"name": "no blanks", "role": "viewer"}, "cần chữ cái, chữ số và . _ @ + -"),
        ("/admin/users", {"name": "linh", "role": "viewer"}, "linh: đã có người dùng tên này"),
        ("/admin/origins", {"origin": "https://a.example/path"}, "không kèm đường dẫn hay người dùng"),
        ("/admin/tokens", {"name": "k", "role": "viewer", "days": "31"}, "30, 90 hoặc 365 ngày"),
        ("/feeds/orders/pause", {"part": "both", "why": ""}, "lý do dài 3 đến 500 ký tự"),
        ("/jobs/reconcile/run", {"why": "x"}, "lý do dài 3 đến 500 ký tự"),
        (f"/deliveries/{ref_of('orders:1')}/cancel", {"why": "by mistake"}, "không còn gì được gửi"),
        ("/notifications", {"quiet_from": "25:00", "version": "1"}, "ví dụ 22:00"),
        ("/profile/password", {"current": "x", "new": "a", "again": "a"}, "không phải mật khẩu hiện tại"),
        (
            "/operations",
            {"kind": "replay", "filter": "feed=orders", "id": "operation-1", "why": "mended", "rate": "fast"},
            "phải là một tốc độ như",
        ),
    ]  # fmt: skip
    for address, form, said in refused:
        page = await linh.post(address, data=form)
        assert page.status_code in {409, 412, 422}, (address, page.status_code)
        assert said in page.text, address
    for address, said in (
        ("/feeds/nowhere", "chưa được cấu hình; các feed đã biết: orders"),
        ("/nowhere", "<h1>Không tìm thấy</h1>"),
        ("/operations/nowhere-at-all", "không có thao tác nào mang id nowhere-at-all"),
        ("/feeds/orders/rewind?to=yesterday", "chiến lược identity cần"),
    ):
        page = await linh.get(address)
        assert page.status_code in {404, 422}
        assert said in page.text, address
