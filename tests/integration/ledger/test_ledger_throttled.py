"""A ledger's server that says how long to wait is asked again after that, and no caller learns of
it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from app.core.errors import LedgerUnavailable
from app.core.rows import SourceRow
from app.core.states import State
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.persistence import TOLD_TIMES
from app.testbed.embedded.replica_set import Member
from tests.support.gateway import Gateway, first, throttling
from tests.support.ledger import FEED, NOW
from tests.support.mongods import replica_set
from tests.support.relay import Relay

WAIT_MS = 150


@pytest.fixture(scope="module")
def member() -> Iterator[Member]:
    with replica_set(1) as (only,):
        yield only


async def _ledger(gateway: Gateway) -> Ledger:
    return Ledger.at(gateway.url, timedelta(seconds=30))


def _pauses_ms(gateway: Gateway, name: str) -> list[float]:
    """How long after the one before each of these commands came."""
    at = [asked_at for asked, asked_at in gateway.asked if asked == name]
    return [1000 * (later - earlier) for earlier, later in itertools.pairwise(at)]


async def test_a_question_is_asked_again_after_the_time_that_the_server_says(
    member: Member,
) -> None:
    async with throttling(member.port, first(3, {"find"}), WAIT_MS) as gateway:
        ledger = await _ledger(gateway)
        assert (await ledger.cursors.get("orders")).position is None
        await ledger.close()
    pauses = _pauses_ms(gateway, "find")
    assert len(pauses) == gateway.throttled == 3
    assert min(pauses) >= WAIT_MS


async def test_rows_that_were_logged_in_part_are_logged_whole_and_once(member: Member) -> None:
    async with throttling(member.port, first(2, {"insert"}), WAIT_MS) as gateway:
        ledger = await _ledger(gateway)
        rows = [SourceRow(str(number), number, "{}") for number in range(8)]
        batch = new_batch(FEED, (f"{FEED}:{row.key}" for row in rows))
        await ledger.deliveries.log([(batch, rows)], NOW)
        logged = await ledger._database["deliveries"].find({"feed": FEED}).to_list()
        await ledger.close()
    assert {(document["_id"], document["batch"]) for document in logged} == {
        (one, batch.id) for one in batch.delivery_ids
    }
    assert gateway.throttled == 2
    assert min(_pauses_ms(gateway, "insert")) >= WAIT_MS


async def test_a_change_that_was_one_too_many_is_made_once(member: Member) -> None:
    async with throttling(member.port, first(2, {"update"}), WAIT_MS) as gateway:
        ledger = await _ledger(gateway)
        await ledger.stats.add_logged("counted", 3, NOW)
        (minute,) = await ledger.stats.between(
            "counted", NOW - timedelta(hours=1), NOW + timedelta(hours=1)
        )
        await ledger.close()
    assert minute["logged"] == 3
    assert gateway.throttled == 2


@pytest.mark.parametrize(
    ("wait_ms", "asked"), [(3_600_000, 1), (1, TOLD_TIMES + 1)], ids=["too long", "too often"]
)
async def test_the_waiting_has_a_bound(member: Member, wait_ms: int, asked: int) -> None:
    async with throttling(member.port, lambda name: name == "find", wait_ms) as gateway:
        ledger = await _ledger(gateway)
        with pytest.raises(LedgerUnavailable, match="TooManyRequests") as refused:
            await ledger.cursors.get("orders")
        await ledger.close()
    assert refused.value.retry_after == timedelta(milliseconds=wait_ms)
    assert len(gateway.asked) == asked


async def test_a_server_that_refuses_a_third_of_all_commands_has_each_row_delivered_once(
    member: Member,
) -> None:
    """One poll and one worker, as where nothing is wrong: nothing waits for a sweep, no attempt is
    unknown.
    """
    drawn = random.Random(1)
    async with throttling(member.port, lambda _: drawn.random() < 1 / 3, 1) as gateway:
        ledger = await _ledger(gateway)
        relay = Relay(ledger)
        relay.source.add(20)
        await relay.polling().poll(relay.feed)
        await relay.deliver_all()
        gateway.throttles = lambda _: False
        states = await relay.states()
        await ledger.close()
    assert list(states.values()) == [State.DELIVERED] * 20
    assert relay.partner.requests == len(relay.partner.accepted) == 20
    assert gateway.throttled > 5
