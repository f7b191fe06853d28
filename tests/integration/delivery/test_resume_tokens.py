"""After `feeds resume` every worker process begins with a new access token, also one that never met
the refusal.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import app.delivery.pauses
import config
from app.cli.main import main
from app.core.attempts import Outcome
from app.core.clock import utc_now
from app.ledger import Ledger
from app.runtime.loop import Runtime
from app.runtime.worker import Services, open_worker
from app.testbed.simulator.partner import Simulator, serve
from tests.support.doubles import MemoryQueue
from tests.support.ledger import log_batch

FEED = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }

[feeds.orders.partner]
url = "URL/rows"
auth = { type = "oauth2", token_url = "URL/oauth/token", client_id = "simulator", client_secret = "simulator-secret" }
"""


def begin(partner: Simulator, place: Path, count: int) -> list[Runtime]:
    """Worker processes' runtimes, each with its clients, for a feed to that partner."""
    partner.issuer.required = True
    (place / "feeds.toml").write_text(FEED.replace("URL", partner.url), encoding="utf-8")
    loaded = config.load()
    return [Runtime(lambda: open_worker(loaded, MemoryQueue())) for _ in range(count)]


async def send(worker: Runtime, ledger: Ledger, row: int) -> dict[Outcome, int] | None:
    """The worker takes a batch of one row."""
    batch = await log_batch(ledger, row, now=utc_now())

    async def deliver(services: Services) -> dict[Outcome, int] | None:
        return await services.delivering.deliver(services.config.feed("orders"), batch.id)

    return await asyncio.to_thread(worker.run, deliver)


def refusals(partner: Simulator) -> int:
    """Requests that were not accepted."""
    counted = partner.counts()["requests"]
    assert isinstance(counted, int)
    return counted - sum(partner.accepted_keys.values())


async def test_each_worker_begins_with_a_new_token_once_a_feed_is_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mongo_database_url: str,
    clean_redis_url: str,
    ledger: Ledger,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app.delivery.pauses, "PAUSES_KNOWN_SECONDS", 0.0)
    for name, value in {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": "sqlite://",
    }.items():
        monkeypatch.setenv(name, value)
    async with serve() as partner:
        workers = begin(partner, tmp_path, 2)
        try:
            done = [await send(worker, ledger, row) for row, worker in enumerate(workers, start=1)]
            assert (done, partner.issuer.asked) == ([{Outcome.DELIVERED: 1}] * 2, 2)

            partner.issuer.withdraw()
            partner.issuer.life_seconds = 0.0
            assert await send(workers[0], ledger, 3) == {Outcome.RETRY: 1}
            assert await ledger.pauses.paused() == ["orders"]

            partner.issuer.life_seconds = 3600.0
            refused, asked = refusals(partner), partner.issuer.asked
            resumed = await asyncio.to_thread(
                CliRunner().invoke, main, ["feeds", "resume", "orders"]
            )
            assert resumed.output == "orders: resumed\n"
            done = [await send(worker, ledger, row) for row, worker in enumerate(workers, start=4)]
        finally:
            for worker in workers:
                await asyncio.to_thread(worker.close)
        assert Counter(map(str, done)) == {str({Outcome.DELIVERED: 1}): 2}
        assert refusals(partner) == refused  # none was sent with the token that was withdrawn
        assert partner.issuer.asked - asked == 2
