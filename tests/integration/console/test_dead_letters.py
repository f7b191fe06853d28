"""Dead letters in groups: like with like, bounded, and each with the filter that means it alone."""

from __future__ import annotations

import pytest

from app.console.deliveries.schemas import DeliverySearch
from app.console.security.roles import Role
from app.core.states import State
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, put
from tests.support.hostile import SCRIPTS


def refused(
    key: object, reason: str, status: int | None = 422, **more: object
) -> dict[str, object]:
    last = {"error": reason} | ({} if status is None else {"status": status})
    return delivery(key) | {"reason": reason, "last": last} | more


async def test_like_is_grouped_with_like_and_the_filter_of_a_group_means_it_alone(
    console: Consoled,
) -> None:
    await put(
        console,
        *(refused(n, f'422: no customer "{n}{n}" in 2026{n}{n}{n}{n}') for n in range(5)),
        *(refused(f"late-{n}", f'422: no customer "{n}" in 20261 left') for n in range(2)),
        refused("a", '422: no customer "9" in 20269999', None),
        refused("b", '422: no customer "9" in 20269999', acknowledged={"by": "x"}),
        delivery("c", state=State.DELIVERED),
    )
    viewer = await console.logged_in(Role.VIEWER)
    found = (await viewer.get("/api/v1/dead-letters")).json()
    counts = [(one["reason_kind"], one["status"], one["count"]) for one in found["items"]]
    assert counts == [
        ('422: no customer "…" in #', 422, 5),
        ('422: no customer "…" in # left', 422, 2),
        ('422: no customer "…" in #', None, 1),
    ]
    for group in found["items"]:
        asked = DeliverySearch.of_query(group["filter"])
        listed = (await viewer.get("/api/v1/deliveries?" + asked.query())).json()["items"]
        mine = [one for one in listed if not one["acknowledged"]]
        assert len(mine) == group["count"]
        assert group["example_ref"] in {one["ref"] for one in mine}


async def test_what_is_looked_at_is_bounded_and_said(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reads.dead_letters.LOOKED_AT", 3)
    await put(console, *(refused(n, "422") for n in range(5)))
    found = (await (await console.logged_in(Role.VIEWER)).get("/api/v1/dead-letters")).json()
    assert (found["looked_at"], found["complete"]) == (3, False)


async def test_the_page_shows_reasons_as_text_and_only_an_operator_may_act(
    console: Consoled,
) -> None:
    await put(console, *(refused(number, text) for number, text in enumerate(SCRIPTS)))
    viewer, operator = await console.logged_in(Role.VIEWER), await console.logged_in(Role.OPERATOR)
    page = (await operator.get("/dead-letters")).text
    for mark in ("<script>document", "<img", "<svg"):
        assert mark not in page
    assert page.count('action="/operations/new"') >= 5
    assert "<button disabled>Act on this group" in (await viewer.get("/dead-letters")).text


async def test_none_says_what_comes_next(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert "No dead letters." in (await viewer.get("/dead-letters")).text
    assert (await viewer.get("/dead-letters?feed=nobody")).status_code == 422
