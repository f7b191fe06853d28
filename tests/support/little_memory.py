"""A process that polls and delivers one feed in as much memory as it is told: `python -m
tests.support.little_memory`.

Arguments: the ledger's URL, the source's, and how many MiB it may have beside what it took to
start. Prints the number of rows delivered, and the budget's peak in MiB.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from datetime import timedelta
from pathlib import Path

from app.core.attempts import Outcome
from app.core.budget import Budget
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.source.engine import open_engine
from app.source.reader import Source
from tests.support.doubles import MemoryQueue, ScriptedPartner, VirtualClock

BUDGET = 64 * 2**20
WAIT = timedelta(minutes=1)


def main() -> None:
    """Run, and print."""
    ledger_url, source_url, beside = sys.argv[1:]
    print(*asyncio.run(_relay(ledger_url, source_url, int(beside))))  # noqa: T201 - its answer


async def _relay(ledger_url: str, source_url: str, beside_mib: int) -> tuple[int, int]:
    budget, clock, queue = Budget(BUDGET), VirtualClock(), MemoryQueue()
    ledger, source = Ledger.at(ledger_url, WAIT), Source(open_engine(source_url, WAIT), budget)
    partner = ScriptedPartner(clock)
    partner.payloads = _Forgetful()
    worker = Delivering(
        ledger, partner, DeliverySettings("w1", WAIT, 50, WAIT / 600), clock, budget=budget
    )
    polling = Polling(source, ledger, queue, message_wait=WAIT, now=clock)
    await ledger.prepare()
    await source.version()  # connected, with all that takes, before memory is short
    _limit(beside_mib * 2**20)
    delivered = 0
    try:
        for _ in range(100):
            clock.advance(WAIT)
            await polling.poll(FEED)
            messages, queue.messages = queue.messages, []
            outcomes = await asyncio.gather(
                *(worker.deliver(FEED, batch_id) for _, batch_id in messages)
            )
            delivered += sum(found[Outcome.DELIVERED] for found in outcomes if found)
            if not messages:
                break
    finally:
        await source.close()
        await ledger.close()
    return delivered, budget.peak // 2**20


def _limit(beside: int) -> None:
    """So much more data than it has now: what threads have only reserved does not count
    (getrlimit(2)).
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    data = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + beside, data + beside))


class _Forgetful(dict[str, list[str]]):
    """What the partner's double keeps of payloads: nothing."""

    def __missing__(self, key: str) -> list[str]:
        return []


FEED = Feed.model_validate(
    {
        "name": "orders",
        "table": "orders",
        "key": "id",
        "cursor": {"strategy": "identity", "column": "id"},
        "page_size": 10_000,
        "batch_size": 1000,
        "partner": {"url": "https://partner.example/", "concurrency": 1000},
    }
)

if __name__ == "__main__":
    main()
