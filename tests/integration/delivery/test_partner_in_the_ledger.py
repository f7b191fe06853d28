"""What the partner's answers, and a feed's filter and body, leave on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.core.attempts import Outcome
from app.delivery.deliver import Delivering
from app.delivery.sweep import Sweeping
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.ledger.client import Document
from app.partner.client import PartnerClient
from app.testbed.simulator.faults import Faults
from app.testbed.simulator.partner import serve
from tests.support.doubles import MemoryQueue, MemorySource, VirtualClock
from tests.support.feeds import make_feed
from tests.support.ledger import claim, delivery, log_batch, take_over

MINUTE = timedelta(minutes=1)
TERMS = DeliverySettings("w1", MINUTE, 50, timedelta(milliseconds=10))


def feed_with(url: str, **changes: Any) -> Feed:
    """A feed for the memory source; `partner` holds further fields of its partner."""
    partner = {"url": f"{url}/rows", "timeout": "5s", **changes.pop("partner", {})}
    return Feed.model_validate(dict(make_feed(batch_size=10)) | {"partner": partner} | changes)


class System:
    """Polls a source of `rows` rows, sends what is queued, and retries when told to."""

    def __init__(self, ledger: Ledger, feed: Feed, rows: int) -> None:
        self.ledger, self.feed = ledger, feed
        self.clock, self.queue, self.source = VirtualClock(), MemoryQueue(), MemorySource()
        self.source.add(rows)

    async def poll(self) -> None:
        await Polling(
            self.source, self.ledger, self.queue, message_wait=MINUTE, now=self.clock
        ).poll(self.feed)

    async def deliver(self) -> dict[Outcome, int]:
        """Send every batch that is queued. Returns the outcomes of all."""
        outcomes: dict[Outcome, int] = {}
        async with PartnerClient([self.feed]) as partner:
            delivering = Delivering(self.ledger, partner, TERMS, now=self.clock)
            while self.queue.messages:
                _, batch = self.queue.messages.pop(0)
                for outcome, count in (await delivering.deliver(self.feed, batch) or {}).items():
                    outcomes[outcome] = outcomes.get(outcome, 0) + count
        return outcomes

    async def retry(self) -> None:
        """Put what waits for a retry back on the queue."""
        self.clock.advance(timedelta(hours=1))
        feeds = {self.feed.name: self.feed}
        await Sweeping(
            self.ledger, self.queue, feeds, lease=MINUTE, limit=100, now=self.clock
        ).sweep()

    async def attempts(self, row: int) -> list[Document]:
        return await self.ledger.attempts.of_delivery(f"orders:{row}")


async def test_rows_that_the_filter_leaves_out_are_skipped_on_record_and_never_sent(
    ledger: Ledger,
) -> None:
    async with serve() as partner:
        system = System(
            ledger,
            feed_with(partner.url, filter=[{"column": "id", "op": "<=", "value": 2}]),
            rows=3,
        )
        await system.poll()
        await system.deliver()
        assert sorted(partner.accepted_keys) == ["orders:1", "orders:2"]
    skipped = await delivery(ledger, 3)
    assert (skipped["state"], skipped["reason"]) == ("skipped", "filter: not id <= 2")
    assert skipped["finished_at"]
    standing = (await ledger.state_counts.by_feed(system.clock()))["orders"]
    assert {str(state): count for state, count in standing.states.items() if count} == {
        "delivered": 2,
        "skipped": 1,
    }


async def test_a_row_the_filter_cannot_judge_is_a_dead_letter(ledger: Ledger) -> None:
    wrong = [{"column": "total", "op": "<", "value": 2}]
    system = System(ledger, feed_with("http://partner.invalid", filter=wrong), rows=1)
    await system.poll()
    found = await delivery(ledger, 1)
    assert (found["state"], found["reason"]) == (
        "dead",
        "filter: the row has no column 'total'; it has id",
    )


async def test_a_row_that_fails_its_function_is_a_dead_letter_and_the_others_go_on(
    ledger: Ledger,
) -> None:
    async with serve() as partner:
        system = System(ledger, feed_with(partner.url, body=f"{__name__}:refuse_two"), rows=3)
        await system.poll()
        assert await system.deliver() == {Outcome.DELIVERED: 2, Outcome.DEAD: 1}
    dead = await delivery(ledger, 2)
    assert dead["state"] == "dead"
    assert dead["reason"].endswith("refuse_two: ValueError: two is too many")
    assert await ledger.batches.owed("orders") == 0


def refuse_two(row: dict[str, Any]) -> dict[str, Any]:
    if row["id"] == 2:
        raise ValueError("two is too many")
    return row


async def test_a_lost_answer_is_on_record_as_unknown_and_the_retry_asks_first(
    ledger: Ledger,
) -> None:
    async with serve(Faults(lost_answer=1, limit=1)) as partner:
        asking = {"status_url": f"{partner.url}/status/{{id}}"}
        system = System(ledger, feed_with(partner.url, partner=asking), rows=1)
        await system.poll()
        assert await system.deliver() == {Outcome.UNKNOWN: 1}
        found = await delivery(ledger, 1)
        assert (found["state"], found["last"]["in_doubt"]) == ("retrying", True)
        await system.retry()
        assert await system.deliver() == {Outcome.DELIVERED: 1}
        assert partner.accepted_keys == {"orders:1": 1}
        assert partner.asked == ["orders:1"]
    outcomes = {attempt["outcome"]: attempt.get("note") for attempt in await system.attempts(1)}
    assert outcomes == {
        "unknown": None,
        "delivered": "status_url: the partner has the row; nothing was sent",
    }
    assert "in_doubt" not in (await delivery(ledger, 1))["last"]


async def test_the_doubt_stays_until_the_partner_tells(ledger: Ledger) -> None:
    async with serve(Faults(lost_answer=1, limit=1)) as partner:
        system = System(ledger, feed_with(partner.url), rows=1)
        await system.poll()
        await system.deliver()
    await system.retry()
    assert await system.deliver() == {Outcome.RETRY: 1}  # nobody listens now
    assert (await delivery(ledger, 1))["last"]["in_doubt"] is True


async def test_a_refused_connection_leaves_no_doubt(ledger: Ledger) -> None:
    async with serve() as gone:
        url = gone.url
    system = System(ledger, feed_with(url), rows=1)
    await system.poll()
    assert await system.deliver() == {Outcome.RETRY: 1}
    assert "in_doubt" not in (await delivery(ledger, 1))["last"]


async def test_what_a_dead_worker_left_is_in_doubt(ledger: Ledger) -> None:
    batch = await log_batch(ledger, 1)
    first = await claim(ledger, batch)
    assert [found.in_doubt for found in await ledger.deliveries.load(first)] == [False]
    taken_over = await take_over(ledger, batch)
    assert [found.in_doubt for found in await ledger.deliveries.load(taken_over)] == [True]


async def test_an_answer_that_fails_the_success_check_is_retried_and_on_record(
    ledger: Ledger,
) -> None:
    async with serve() as partner:
        check = {"success": {"json": {"path": "accepted", "equals": False}}}
        system = System(ledger, feed_with(partner.url, partner=check), rows=1)
        await system.poll()
        assert await system.deliver() == {Outcome.RETRY: 1}
    attempt = (await system.attempts(1))[0]
    assert (attempt["status"], attempt["error"]) == (
        200,
        "success check: accepted is true, not false",
    )
    assert (await delivery(ledger, 1))["state"] == "retrying"
