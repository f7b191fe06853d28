"""Pause and resume: each of polling and sending by itself, with who paused and why on record."""

from __future__ import annotations

import pytest

from app.ledger import Ledger
from app.operations.by import By
from app.operations.pause import NO_REASON, Part, pause, resume

ADA = By("ada@desk", "the partner moves house")


@pytest.mark.parametrize(
    ("part", "paused", "sends"),
    [(Part.POLLING, True, True), (Part.SENDING, False, False), (Part.BOTH, True, False)],
)
async def test_who_paused_a_feed_and_why_is_on_record_until_it_is_resumed(
    ledger: Ledger, part: Part, paused: bool, sends: bool
) -> None:
    found = await pause(ledger, "orders", ADA, part)
    assert (found.paused, found.sends, found.paused_by) == (paused, sends, "ada@desk")
    assert "the partner moves house" in str(found.stopped)
    resumed = await resume(ledger, "orders", By("bob@desk"))
    assert (resumed.changed, resumed.cursor.stopped, resumed.cursor.paused_by) == (True, None, None)
    assert not (await resume(ledger, "orders", By("bob@desk"))).changed


async def test_a_pause_that_rowrelay_makes_is_nobodys(ledger: Ledger) -> None:
    assert NO_REASON in str((await pause(ledger, "orders", By("ada@desk"), Part.POLLING)).stopped)
    await ledger.pauses.pause("orders", "401 Unauthorized")
    found = await ledger.cursors.get("orders")
    assert (found.paused_reason, found.paused_by) == ("401 Unauthorized", None)
