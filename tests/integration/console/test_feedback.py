"""Feedback: notes on deliveries and feeds, which their author and operators resolve."""

from __future__ import annotations

import pytest

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from tests.support.console import Consoled
from tests.support.harmless import assert_harmless
from tests.support.hostile import ELSEWHERE, SCRIPTS
from tests.support.ledger import log_batch
from tests.support.statements import statements

FEEDBACK = "/api/v1/feedback"
ON_ORDERS = {"subject_kind": "feed", "subject_id": "orders"}


async def test_a_note_is_left_listed_by_subject_and_resolved_once(console: Consoled) -> None:
    viewer, operator = await console.logged_in(Role.VIEWER), await console.logged_in(Role.OPERATOR)
    left = await viewer.post(FEEDBACK, json=ON_ORDERS | {"text": "Asked ACME.\nThey look."})
    assert (left.status_code, left.json()["author"]) == (201, "viewer")
    listed = (await viewer.get(FEEDBACK, params=ON_ORDERS)).json()["items"]
    assert [note["text"] for note in listed] == ["Asked ACME.\nThey look."]
    resolve = f"{FEEDBACK}/{left.json()['id']}/resolve"
    first = (await operator.post(resolve)).json()
    assert first["resolved_by"] == "operator"
    assert (await viewer.post(resolve)).json() == first
    assert (await viewer.get(FEEDBACK, params={"open": "true"})).json()["items"] == []
    actions = (await viewer.get("/api/v1/audit", params={"action": "feedback"})).json()["items"]
    assert [one["action"] for one in actions] == ["feedback.resolved", "feedback.left"]


async def test_another_viewer_may_not_resolve_a_note(console: Consoled) -> None:
    viewer, other = await console.logged_in(Role.VIEWER), await console.logged_in(Role.VIEWER, "an")
    left = (await viewer.post(FEEDBACK, json=ON_ORDERS | {"text": "see INC-7"})).json()
    assert (await other.post(f"{FEEDBACK}/{left['id']}/resolve")).status_code == 403
    assert (await other.post(f"{FEEDBACK}/none/resolve")).status_code == 404


async def test_a_note_on_a_delivery_goes_by_its_ref(console: Consoled) -> None:
    batch = await log_batch(console.services.operator.ledger, 1)
    delivery_id = batch.delivery_ids[0]
    viewer = await console.logged_in(Role.VIEWER)
    new = {"subject_kind": "Delivery", "subject_id": ref_of(delivery_id), "text": "look"}
    left = (await viewer.post(FEEDBACK, json=new)).json()
    assert (left["subject_id"], left["subject"]) == (ref_of(delivery_id), delivery_id)
    page = await viewer.get("/admin/feedback")
    assert f'href="/deliveries/{ref_of(delivery_id)}"' in page.text


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        ({"subject_kind": "feed", "subject_id": "nowhere"}, 404),
        ({"subject_kind": "delivery", "subject_id": ref_of("orders:9")}, 404),
        ({"subject_kind": "delivery", "subject_id": "!"}, 404),
        ({"subject_kind": "partner", "subject_id": "orders"}, 422),
        (ON_ORDERS | {"text": " \n "}, 422),
        (ON_ORDERS | {"text": "a\x00b"}, 422),
        (ON_ORDERS | {"text": "x" * 2001}, 422),
    ],
    ids=str,
)
async def test_a_note_on_nothing_or_of_nothing_is_refused(
    console: Consoled, subject: dict[str, str], status: int
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert (await viewer.post(FEEDBACK, json={"text": "look"} | subject)).status_code == status
    assert (await viewer.get(FEEDBACK)).json()["items"] == []


async def test_pages_of_notes_hold_each_once_and_ask_as_much_for_many_as_for_one(
    console: Consoled,
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for number in range(5):
        await viewer.post(FEEDBACK, json=ON_ORDERS | {"text": f"note {number}"})
    seen, after = list[str](), ""
    for _ in range(3):
        asked = {"limit": "2"} | ({"after": after} if after else {})
        page = (await viewer.get(FEEDBACK, params=asked)).json()
        seen, after = seen + [note["text"] for note in page["items"]], page["next"]
    assert not after
    assert seen == [f"note {number}" for number in range(4, -1, -1)]
    with statements(console.services.store.engine) as sent:
        await viewer.get("/admin/feedback")
    assert len(sent) == 2
    for nonsense in ("nonsense", "WyJub3ciLCJhIl0"):
        assert (await viewer.get(FEEDBACK, params={"after": nonsense})).status_code == 422


async def test_the_form_goes_back_to_the_page_and_to_no_other_site(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    form = ON_ORDERS | {"text": "look", "next": "/feeds/orders"}
    assert (await viewer.post("/admin/feedback", data=form)).headers["location"] == "/feeds/orders"
    for address in ELSEWHERE:
        answer = await viewer.post("/admin/feedback", data=form | {"next": address})
        assert answer.headers["location"] == "/admin/feedback", address
    empty = await viewer.post("/admin/feedback", data=form | {"text": " "})
    assert (empty.status_code, 'role="alert"' in empty.text) == (422, True)


async def test_hostile_notes_are_shown_as_text(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    for text in SCRIPTS:
        form = ON_ORDERS | {"text": text}
        assert (await viewer.post("/admin/feedback", data=form)).status_code == 303
        refused = form | {"text": text + "x" * 2000, "next": text, "subject_id": text}
        assert_harmless(await viewer.post("/admin/feedback", data=refused), shows=True)
    assert_harmless(await viewer.get("/admin/feedback"), shows=True)
