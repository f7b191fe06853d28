"""Operations in bulk, in the API and as pages: from a filter to a closing sum, on record, with what a
reader may not do there and saying why."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.console.security.roles import Role
from app.console.store.tables import AuditEntry
from app.core.states import State
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, put

API = "/api/v1/operations"
DEAD = {"feed": ["orders"], "state": ["dead-letter"]}
NEW = {
    "id": "operation-1",
    "kind": "Replay",
    "filter": DEAD,
    "rate": "1000/second",
    "why": "the partner mended it",
}
WHY = {"why": "it is mended"}


async def work(console: Consoled) -> None:
    """What the console's background does."""
    await console.services.operator.operation_runner.work_off()


async def answered(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


async def audited(console: Consoled) -> list[str]:
    async with console.services.store.reading() as session:
        entries = await session.scalars(select(AuditEntry).order_by(AuditEntry.number))
        return [one.action for one in entries if one.action.startswith("operation.")]


async def test_from_a_filter_to_a_closing_sum(console: Consoled) -> None:
    await put(
        console, *(delivery(number) for number in range(5)), delivery("ok", state=State.DELIVERED)
    )
    client = await console.logged_in(Role.OPERATOR)
    preview = await answered(
        await client.post(f"{API}/preview", json={"kind": "replay", "filter": DEAD})
    )
    assert preview["count"] == {"number": 5, "exact": True}
    assert len(preview["items"]) == 5
    assert preview["skipped"] == []
    made = await client.post(API, json=NEW)
    assert (await answered(made, 201))["state"] == "freezing"
    again = await answered(await client.post(API, json=NEW), 201)
    assert again["id"] == "operation-1"
    await work(console)
    frozen = await client.get(f"{API}/operation-1")
    assert (frozen.json()["state"], frozen.json()["size"]) == ("frozen", 5)
    unsaid = await client.post(f"{API}/operation-1/start", json=WHY)
    assert unsaid.status_code == 428
    started = await client.post(
        f"{API}/operation-1/start", json=WHY, headers={"If-Match": frozen.headers["ETag"]}
    )
    assert (await answered(started))["state"] == "running"
    await put(console, delivery("later"))
    console.services.operator.operation_runner._settings = _no_patience(console)
    await work(console)
    done = await answered(await client.get(f"{API}/operation-1"))
    assert done["state"] == "done"
    assert (done["closing"]["moved"], done["closing"]["size"], done["closing"]["others"]) == (
        5,
        5,
        0,
    )
    assert done["closing"]["balances"]
    page = await answered(await client.get(f"{API}/operation-1/deliveries", params={"limit": 3}))
    rest = await answered(
        await client.get(f"{API}/operation-1/deliveries", params={"after": page["next"]})
    )
    assert [one["outcome"] for one in page["items"] + rest["items"]] == ["moved"] * 5
    assert rest["next"] is None
    listed = await answered(await client.get(API, params={"state": "DONE", "feed": "orders"}))
    assert [one["id"] for one in listed["items"]] == ["operation-1"]
    assert await audited(console) == [
        "operation.create.asked", "operation.created", "operation.create.asked", "operation.created",
        "operation.start.asked", "operation.started",
    ]  # fmt: skip


def _no_patience(console: Consoled) -> Any:
    """No worker settles anything here, so nothing is waited for."""
    settings = console.services.operator.operation_runner._settings
    return replace(settings, last_patience=timedelta())


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"filter": {}}, 422, "nothing is selected"),
        ({"filter": {"state": ["dead"]}}, 422, "nothing is selected"),
        ({"filter": {"status": 422}}, 422, "one feed"),
        ({"filter": {"feed": ["nowhere"]}}, 422, "nowhere"),
        ({"filter": {"feed": ["orders"], "state": ["queued"]}}, 422, "a replay takes"),
        ({"filter": {"feed": ["orders"], "status": 418}}, 422, "nothing is selected"),
        ({"rate": "soon"}, 422, "rate"),
        ({"canary": 5}, 422, "canary"),
        ({"kind": "cancel", "canary": 5, "stop_ratio": 0.1}, 422, "only a replay"),
        ({"kind": "delete"}, 422, "kind"),
        ({"why": "x"}, 422, "why"),
        ({"id": "../x"}, 422, "id"),
    ],
)
async def test_what_cannot_be_is_refused_and_says_why(
    console: Consoled, changed: dict[str, Any], status: int, said: str
) -> None:
    await put(console, delivery(1))
    client = await console.logged_in(Role.OPERATOR)
    answer = await client.post(API, json=NEW | changed)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert (await answered(await client.get(API)))["items"] == []


async def test_an_unknown_one_is_not_found_and_a_second_start_conflicts(console: Consoled) -> None:
    await put(console, delivery(1))
    client = await console.logged_in(Role.OPERATOR)
    assert (await client.get(f"{API}/operation-9")).status_code == 404
    assert (await client.post(f"{API}/operation-9/pause", json=WHY)).status_code == 404
    await client.post(API, json=NEW)
    refused = await client.post(f"{API}/operation-1/start", json=WHY, headers={"If-Match": '"1"'})
    assert refused.status_code == 409, "its set is not frozen yet"
    ended = await answered(await client.post(f"{API}/operation-1/abandon", json=WHY))
    assert ended["state"] == "abandoned"


async def test_a_viewer_looks_and_moves_nothing_and_that_is_on_record(console: Consoled) -> None:
    await put(console, delivery(1))
    operator, viewer = await console.logged_in(Role.OPERATOR), await console.logged_in(Role.VIEWER)
    await operator.post(API, json=NEW)
    await work(console)
    assert (await viewer.get(f"{API}/operation-1")).status_code == 200
    assert (await viewer.get(f"{API}/operation-1/deliveries")).status_code == 200
    for verb in ("start", "pause", "resume", "abandon"):
        refused = await viewer.post(
            f"{API}/operation-1/{verb}", json=WHY, headers={"If-Match": '"1"'}
        )
        assert refused.status_code == 403
    assert (await viewer.post(API, json=NEW | {"id": "operation-2"})).status_code == 403
    assert (
        await viewer.post(f"{API}/preview", json={"kind": "replay", "filter": DEAD})
    ).status_code == 403
    assert "operation.abandon.refused" in await audited(console)
    page = (await viewer.get("/operations/operation-1")).text
    assert "takes the role operator" in page
    assert "<button disabled" in page


async def test_what_the_row_holds_is_masked_in_a_preview(console: Consoled) -> None:
    await put(console, delivery(1, payload='{"id": 1, "name": "Nguyen Secret", "items": [1, 2]}'))
    client = await console.logged_in(Role.OPERATOR)
    asked = {"kind": "replay", "filter": DEAD}
    answer = await client.post(f"{API}/preview", json=asked)
    assert "Nguyen Secret" not in answer.text
    sample = (await answered(answer))["sample"]
    assert '"name"' in sample["request"]["body"]
    assert sample["differences_untold"]


async def test_pages_lead_from_a_filter_to_the_sum(console: Consoled) -> None:
    await put(console, *(delivery(number) for number in range(3)))
    client = await console.logged_in(Role.OPERATOR)
    assert "No operation yet" in (await client.get("/operations")).text
    empty = await client.get("/operations/new")
    assert empty.status_code == 200
    assert "Freeze the set" not in empty.text
    page = (await client.get("/operations/new", params={"kind": "replay", "feed": "orders"})).text
    assert "3 are selected" in page
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    form = {"filter": form["filter"].replace("&amp;", "&"), "kind": "replay", "id": form["id"]}
    told = form | {"rate": "1000/second", "canary": "", "stop_percent": "", "why": "mended"}
    wrong = await client.post("/operations", data=told | {"rate": "soon"})
    assert wrong.status_code == 422
    assert 'role="alert"' in wrong.text
    assert 'value="mended"' in wrong.text, "what was typed is kept"
    made = await client.post("/operations", data=told)
    assert made.status_code == 303, made.text
    await work(console)
    here = made.headers["location"]
    page = (await client.get(here)).text
    assert "frozen, not started" in page
    unsaid = await client.post(f"{here}/start", data={"why": "", "version": "2"})
    assert unsaid.status_code == 422
    assert (
        await client.post(f"{here}/start", data={"why": "go", "version": "2"})
    ).status_code == 422
    assert (
        await client.post(f"{here}/start", data={"why": "mended", "version": "2"})
    ).status_code == 303
    console.services.operator.operation_runner._settings = _no_patience(console)
    await work(console)
    page = (await client.get(here)).text
    assert "3 of 3 acted on" in page
    assert "0 others" in page
    assert here in (await client.get("/operations", params={"state": "done"})).text
    assert (await client.get("/operations", params={"state": "lost"})).status_code == 422


async def test_a_hostile_reason_is_text(console: Consoled) -> None:
    script = "<script>alert(1)</script>"
    await put(console, delivery(1, reason=script))
    client = await console.logged_in(Role.OPERATOR)
    page = (await client.get("/operations/new", params={"feed": "orders", "reason": script})).text
    assert script not in page
    assert "&lt;script&gt;" in page


async def test_a_search_text_narrows_the_frozen_set_as_it_narrowed_the_preview(
    console: Consoled,
) -> None:
    await put(
        console,
        *(delivery(number, reason="success check: no such currency") for number in range(2)),
        *(delivery(number) for number in range(10, 15)),
    )
    client = await console.logged_in(Role.OPERATOR)
    chosen = DEAD | {"q": "currency"}
    asked = {"kind": "replay", "filter": chosen}
    preview = await answered(await client.post(f"{API}/preview", json=asked))
    assert preview["count"]["number"] == 2
    await answered(await client.post(API, json=NEW | {"filter": chosen}), 201)
    await work(console)
    frozen = await answered(await client.get(f"{API}/operation-1"))
    assert (frozen["state"], frozen["size"]) == ("frozen", 2)
