"""Whose fault a refusal is: one row's or everybody's; and a feed that is refused stops before its
table is dead.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from app.core.attempts import Answer
from app.core.deliveries import Delivery
from app.feeds.feed import Feed
from app.ledger import Ledger
from tests.support.doubles import ScriptedPartner
from tests.support.feeds import make_feed
from tests.support.relay import Relay


class Refusing(ScriptedPartner):
    """Refuses the rows of `statuses` with that status, or each with `all_with`."""

    statuses: dict[str, int]
    all_with: int | None = None

    async def send(self, feed: Feed, delivery: Delivery) -> Answer:
        status = self.statuses.get(delivery.id, self.all_with)
        if status is None:
            return await super().send(feed, delivery)
        self.requests += 1
        return Answer(self.now(), 1, status)


def refusing(ledger: Ledger) -> tuple[Relay, Refusing]:
    relay = Relay(ledger, make_feed(batch_size=100))
    partner = Refusing(relay.clock)
    partner.statuses = {}
    relay.partner = partner
    return relay, partner


async def send_all(relay: Relay, count: int) -> None:
    for batch in await relay.poll_rows(count):
        await relay.delivering().deliver(relay.feed, batch)


async def send_again(relay: Relay) -> None:
    """Let the time of every retry come, and a worker take what is due."""
    await relay.sweep_later(timedelta(minutes=5))
    await relay.deliver_all()


async def reason(relay: Relay) -> str | None:
    return (await relay.ledger.cursors.get("orders")).paused_reason


async def test_a_partner_that_refuses_every_row_stops_the_feed_after_a_handful(
    ledger: Ledger,
) -> None:
    """A hundred in flight: no more than the handful are dead letters, and the others wait."""
    relay, partner = refusing(ledger)
    partner.all_with = 404
    await send_all(relay, 60)
    states = Counter((await relay.states()).values())
    assert (states["dead"], states["retrying"] + states["queued"]) == (10, 50)
    assert "404 Not Found: " in str(await reason(relay))
    assert (
        "refusals in a row, and nothing accepted in between (partner.stop_after) (delivery orders:"
        in str(await reason(relay))
    )


async def test_two_workers_share_the_handful_and_a_resume_begins_a_new_one(ledger: Ledger) -> None:
    relay, partner = refusing(ledger)
    partner.all_with = 422
    for rows in (6, 6):
        await send_all(relay, rows)
    states = Counter((await relay.states()).values())
    assert (states["dead"], states["retrying"] + states["queued"]) == (10, 2)
    await ledger.pauses.resume("orders")
    assert await ledger.pauses.refusals("orders") == (0, None)


async def test_refusals_among_accepted_rows_stop_nothing(ledger: Ledger) -> None:
    relay, partner = refusing(ledger)
    partner.statuses = {f"orders:{number}": 422 for number in range(1, 41, 4)}
    await send_all(relay, 40)
    partner.statuses |= {f"orders:{number}": 422 for number in range(41, 81, 4)}
    await send_all(relay, 40)
    assert Counter((await relay.states()).values()) == {"dead": 20, "delivered": 60}
    assert await reason(relay) is None


async def test_a_403_for_one_row_is_that_rows_fault(ledger: Ledger) -> None:
    relay, partner = refusing(ledger)
    partner.statuses = {"orders:3": 403}
    await send_all(relay, 9)
    assert (await relay.states())["orders:3"] == "retrying"
    assert await reason(relay) is None


async def test_a_403_again_while_rows_sent_later_are_accepted_is_a_dead_letter_with_the_reason(
    ledger: Ledger,
) -> None:
    relay, partner = refusing(ledger)
    partner.statuses = {"orders:3": 403}
    await send_all(relay, 9)
    await send_again(relay)
    await send_all(relay, 3)
    await send_again(relay)
    found = await ledger.deliveries.get("orders:3")
    assert found is not None
    said = "403 Forbidden: the partner accepts other rows, and refused this one again"
    assert (found["state"], found["reason"], found["attempts"]) == ("dead", said, 3)
    attempts = await ledger.attempts.of_delivery("orders:3")
    assert [(attempt["outcome"], attempt["status"]) for attempt in attempts] == [
        ("retry", 403),
        ("retry", 403),  # nothing had been sent since the first
        ("dead", 403),
    ]
    assert Counter((await relay.states()).values()) == {"dead": 1, "delivered": 11}
    assert await reason(relay) is None


async def test_a_403_again_with_nothing_accepted_since_is_no_dead_letter(ledger: Ledger) -> None:
    """The credentials may have been withdrawn at the moment of the first one: the row proves
    nothing alone.
    """
    relay, partner = refusing(ledger)
    partner.statuses = {"orders:3": 403}
    await send_all(relay, 9)
    for _ in range(2):
        await send_again(relay)
        assert (await relay.states())["orders:3"] == "retrying"
    partner.statuses = {}
    await send_again(relay)
    assert (await relay.states())["orders:3"] == "delivered"


async def test_a_403_for_all_pauses_the_feed_and_names_a_row(ledger: Ledger) -> None:
    relay, partner = refusing(ledger)
    partner.all_with = 403
    await send_all(relay, 9)
    assert set((await relay.states()).values()) <= {"retrying", "queued"}
    assert (
        "403 Forbidden: the partner refuses our credentials; check partner.auth (delivery orders:"
        in str(await reason(relay))
    )
