"""Deliveries in the API: found by what a person has, bounded, masked, and acted on with a reason on
record."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from app.console.store.tables import AuditEntry, IdempotentRequest
from app.core.states import State
from tests.support.console import Consoled
from tests.support.console_ledger import NASTY, attempt, delivery, put

INVOICE = "orders:acme:INV-2026%2F00060"
ADDRESS = f"/api/v1/deliveries/{ref_of(INVOICE)}"
WHY = {"why": "the customer called"}


async def found(client: httpx.AsyncClient, **asked: Any) -> Any:
    answer = await client.get("/api/v1/deliveries", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def audited(console: Consoled, kind: str = "delivery.") -> list[tuple[str, str | None]]:
    async with console.services.store.reading() as session:
        entries = await session.scalars(select(AuditEntry).order_by(AuditEntry.number))
        return [(e.action, e.why) for e in entries if e.action.startswith(kind)]


@pytest.mark.parametrize(
    ("typed", "matched"),
    [
        (INVOICE, "id"),
        ("orders:acme:INV-2026/00060", "key"),
        ("acme:INV-2026/00060", "key"),
        ("acme", "beginning of a key"),
        ("unknown VOUCHER", "part"),
        ("inv-2026/00060", "part"),
    ],
)
async def test_one_box_finds_a_delivery_by_whatever_a_person_has(
    console: Consoled, typed: str, matched: str
) -> None:
    reason = "422 Unprocessable Content: Unknown voucher"
    await put(console, delivery("acme", "INV-2026/00060", reason=reason), delivery(7, age=5))
    page = await found(await console.logged_in(Role.VIEWER), q=typed)
    assert [one["idempotency_key"] for one in page["items"]] == [INVOICE]
    assert page["matched"] == matched


async def test_an_integer_finds_the_row_of_that_key(console: Consoled) -> None:
    await put(console, delivery(7), delivery(77), delivery("x", reason="row 7 is wrong"))
    page = await found(await console.logged_in(Role.VIEWER), q="7")
    assert ([one["key"] for one in page["items"]], page["matched"]) == (["7"], "key")


async def test_filters_hold_together_in_any_spelling(console: Consoled) -> None:
    client = await console.logged_in(Role.VIEWER)
    await put(
        console,
        delivery(1, attempts=4),
        delivery(2, attempts=1),
        delivery(3, state=State.DELIVERED, attempts=4),
        delivery(4, attempts=4, last={"error": "ConnectError"}, reason="attempts spent"),
    )
    asked = {"state": ["Dead-Letter"], "attempts": "2+", "status": 422, "feed": "orders"}
    assert [one["key"] for one in (await found(client, **asked))["items"]] == ["1"]
    assert [one["key"] for one in (await found(client, status="none"))["items"]] == ["4"]
    refused = await client.get("/api/v1/deliveries", params={"state": "lost"})
    assert refused.status_code == 422


async def test_pages_go_on_and_back_over_one_moment_while_rows_come(console: Consoled) -> None:
    """All of one second: the order of ids decides, and what comes meanwhile moves nothing."""
    client = await console.logged_in(Role.VIEWER)
    await put(console, *(delivery(f"{number:02}", state=State.DELIVERED) for number in range(7)))
    first = await found(client, limit=3)
    await put(console, delivery("99", state=State.DELIVERED, age=-5))
    second = await found(client, limit=3, after=first["next"])
    third = await found(client, limit=3, after=second["next"])
    keys = [[one["key"] for one in page["items"]] for page in (first, second, third)]
    assert keys == [["06", "05", "04"], ["03", "02", "01"], ["00"]]
    assert (third["next"], first["previous"]) == (None, None)
    back = await found(client, limit=3, after=third["previous"])
    assert back["items"] == second["items"]
    assert (await found(client, limit=3, after=back["previous"]))["items"] == first["items"]
    again = await found(client, limit=3, after=back["previous"])
    newest = await found(client, limit=3, after=again["previous"])
    assert [one["key"] for one in newest["items"]] == ["99"]


async def test_a_search_that_would_scan_says_how_far_it_looked_and_goes_on(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reads.search.LOOKED_AT", 5)
    client = await console.logged_in(Role.VIEWER)
    await put(
        console,
        *(delivery(number, age=number) for number in range(20)),
        delivery("old", age=12.5, reason="the needle"),
    )
    page, looks = await found(client, reason="needle"), 1
    assert (page["complete"], page["count"]) == (False, None)
    assert page["looked_to"]
    while not page["items"]:
        page, looks = await found(client, reason="needle", after=page["next"]), looks + 1
    assert [one["key"] for one in page["items"]] == ["old"]
    assert looks == 3


async def test_a_count_stops_and_says_so(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reads.search.COUNTED", 10)
    await put(console, *(delivery(number) for number in range(12)))
    page = await found(await console.logged_in(Role.VIEWER), limit=2)
    assert (page["count"], page["count_exact"]) == (10, False)


async def test_the_cursor_of_another_list_and_a_text_that_is_none_are_refused(
    console: Consoled,
) -> None:
    client = await console.logged_in(Role.VIEWER)
    await put(console, delivery(1), delivery(2))
    cursor = (await found(client, limit=1))["next"]
    for after, order in ((cursor, "oldest"), ("nonsense", "newest")):
        asked = {"after": after, "order": order}
        assert (await client.get("/api/v1/deliveries", params=asked)).status_code == 422


async def test_a_delivery_tells_its_story_and_a_viewer_sees_no_value_of_its_row(
    console: Consoled,
) -> None:
    answer = (
        'unknown customer Nguyen Van A <A@B.example>, call +84 912 345 678, order "INV-2026/00060"'
    )
    await put(
        console,
        delivery("acme", "INV-2026/00060", reason="422: Nguyen Van A"),
        attempt(INVOICE, 1, outcome="unknown", status=None, duration_ms=None),
        attempt(INVOICE, 2, response=answer),
    )
    viewer = await console.logged_in(Role.VIEWER)
    seen = await viewer.get(ADDRESS)
    tries = [event["attempt"] for event in seen.json()["events"] if event["attempt"]]
    assert [one["outcome"] for one in tries] == ["unknown", "dead"]
    assert tries[1]["status"] == 422
    assert tries[1]["response"] == ('unknown customer ••• <•••>, call •••, order "INV-2026/00060"')
    for value in ("Nguyen Van A", "b.example"):
        assert value not in seen.text
    assert '"name"' in seen.json()["row"]
    operator = await console.logged_in(Role.OPERATOR)
    assert answer in [
        event["attempt"]["response"]
        for event in (await operator.get(ADDRESS)).json()["events"]
        if event["attempt"]
    ]
    assert "Nguyen Van A" not in (await operator.get(ADDRESS)).json()["row"]


async def test_a_payload_is_revealed_to_an_operator_with_a_reason_and_on_record(
    console: Consoled,
) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    viewer, operator = await console.logged_in(Role.VIEWER), await console.logged_in(Role.OPERATOR)
    assert (await viewer.post(f"{ADDRESS}/reveal", json=WHY)).status_code == 403
    assert (await operator.post(f"{ADDRESS}/reveal", json={})).status_code == 422
    revealed = await operator.post(f"{ADDRESS}/reveal", json=WHY)
    assert "Nguyen Van A" in revealed.json()["payload"]
    assert await audited(console) == [
        ("delivery.reveal.refused", WHY["why"]),
        ("delivery.revealed", WHY["why"]),
    ]


async def test_a_payload_that_was_revealed_is_not_kept_with_its_idempotency_key(
    console: Consoled,
) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    operator = await console.logged_in(Role.OPERATOR)
    once = {"Idempotency-Key": "reveal-1"}
    assert (await operator.post(f"{ADDRESS}/reveal", json=WHY, headers=once)).status_code == 200
    async with console.services.store.reading() as session:
        assert (await session.scalars(select(IdempotentRequest.body))).all() == [None]


async def test_the_request_that_would_be_sent_shows_no_value_of_the_row(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    shown = await (await console.logged_in(Role.OPERATOR)).get(f"{ADDRESS}/request")
    request = shown.json()
    assert (request["method"], request["sent"]) == ("POST", True)
    assert request["headers"]["idempotency-key"] == INVOICE
    assert "Nguyen" not in shown.text


async def test_a_delivery_is_replayed_once_and_both_ends_are_on_record(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    operator = await console.logged_in(Role.OPERATOR)
    done = await operator.post(f"{ADDRESS}/replay", json=WHY)
    assert (done.status_code, done.json()["state"]) == (200, "queued")
    assert (await operator.post(f"{ADDRESS}/replay", json=WHY)).status_code == 409
    assert await audited(console) == [
        ("delivery.replay.asked", WHY["why"]),
        ("delivery.replayed", WHY["why"]),
    ]
    events = (await operator.get(ADDRESS)).json()["events"]
    replayed = next(event for event in events if event["kind"] == "replayed")
    assert (replayed["by"], replayed["why"]) == ("operator", WHY["why"])


async def test_what_a_partner_has_is_replayed_only_where_that_is_said(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060", state=State.DELIVERED))
    operator = await console.logged_in(Role.OPERATOR)
    assert (await operator.post(f"{ADDRESS}/replay", json=WHY)).status_code == 409
    again = await operator.post(f"{ADDRESS}/replay", json=WHY | {"again": True})
    assert again.json()["state"] == "queued"


async def test_cancel_and_acknowledge_move_what_they_may_and_say_why_not(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    operator = await console.logged_in(Role.OPERATOR)
    refused = await operator.post(f"{ADDRESS}/cancel", json=WHY)
    assert (refused.status_code, "it is dead" in refused.json()["detail"]) == (409, True)
    assert (await operator.post(f"{ADDRESS}/acknowledge", json=WHY)).json()["state"] == "dead"
    assert (await operator.get(ADDRESS)).json()["acknowledged"]
    assert (await operator.post(f"{ADDRESS}/replay", json=WHY)).status_code == 409
    undo = await operator.post(f"{ADDRESS}/acknowledge", json=WHY | {"undo": True})
    assert undo.status_code == 200
    assert (await operator.post(f"{ADDRESS}/replay", json=WHY)).json()["state"] == "queued"
    assert (await operator.post(f"{ADDRESS}/cancel", json=WHY)).json()["state"] == "cancelled"


async def test_a_forged_action_of_a_viewer_is_refused_and_on_record(console: Consoled) -> None:
    await put(console, delivery("acme", "INV-2026/00060"))
    viewer = await console.logged_in(Role.VIEWER)
    for action in ("replay", "cancel", "acknowledge"):
        assert (await viewer.post(f"{ADDRESS}/{action}", json=WHY)).status_code == 403
    assert [action for action, _ in await audited(console)] == [
        "delivery.replay.refused",
        "delivery.cancel.refused",
        "delivery.acknowledge.refused",
    ]
    assert (await viewer.get(ADDRESS)).json()["state"] == "dead"
    whys = {one["why_not"] for one in (await viewer.get(ADDRESS)).json()["actions"]}
    assert all("takes the role operator" in why for why in whys)


async def test_a_ref_of_nothing_is_not_found(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for ref in (ref_of("orders:1"), "nonsense", ref_of(NASTY)):
        answer = await viewer.get(f"/api/v1/deliveries/{ref}")
        assert (answer.status_code, answer.json()["status"]) == (404, 404)
