"""A viewer sees no value of a row in lists, groups and exports, as on the delivery's own page."""

from __future__ import annotations

import pytest

from app.console.security.roles import Role
from app.core.states import State
from app.feeds.partner import JsonCheck, Success
from app.partner.success import shortfall
from tests.support.console import Consoled
from tests.support.console_ledger import NOW, delivery, put

SAID = shortfall(
    Success(json=JsonCheck(path="error", equals="")), 200, b'{"error":"no customer Nguyen Van A"}'
)
"""What a worker records of such an answer: see `app.delivery.policy.describe`."""
REASON = f"200: {SAID}"
PLACES = {
    "list": "/api/v1/deliveries",
    "page": "/deliveries",
    "groups": "/api/v1/dead-letters",
    "groups page": "/dead-letters",
    "csv": "/api/v1/deliveries/export",
    "ndjson": "/api/v1/deliveries/export?format=ndjson",
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_viewer_sees_no_value_of_a_row_in_any_list(console: Consoled, place: str) -> None:
    last = {"at": NOW, "status": 200, "error": SAID}
    await put(
        console,
        delivery(1, reason=REASON, last=last),
        delivery(2, state=State.RETRYING, last=last),
    )
    viewer, operator = await console.logged_in(Role.VIEWER), await console.logged_in(Role.OPERATOR)
    seen = await viewer.get(PLACES[place])
    assert seen.status_code == 200
    assert "success check" in seen.text
    assert "Nguyen Van A" not in seen.text
    assert "Nguyen Van A" in (await operator.get(PLACES[place])).text
