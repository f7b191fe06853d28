"""A trial on record goes by the rules of its batch: whoever else sends, and whenever it is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from app.core.attempts import Answer, Outcome, Result, Verdict
from app.core.clock import utc_now
from app.core.rows import Columns, SourceRow
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.client import Document
from app.operations.by import By
from app.operations.trial import SHOWN_HEADERS, Trial, Tried
from app.partner.client import PartnerClient
from app.partner.throttle.throttles import Throttles
from app.reads.subject import Subject, find_subject
from app.source.lookup import Found
from tests.support.ledger import LEASE, listed, log_batch
from tests.support.partners import feed_to, raw_partner, read_request, recording, silent

ROOT = Path(__file__).resolve().parents[3]


class NoSource:
    """What is on record with its payload is not looked for there."""

    async def find(self, feed: Feed, key: str, agreed: Columns = ()) -> Found | None:
        raise AssertionError(f"asked for {feed.name} {key} {agreed}")

    async def latest(self, feed: Feed, agreed: Columns = ()) -> tuple[SourceRow, ...]:
        raise AssertionError(f"asked for {feed.name} {agreed}")


def begun(_: Delivering) -> None:
    """Nobody stops it."""


async def subject_of(feed: Feed, ledger: Ledger, key: str) -> Subject:
    found = await find_subject(feed, ledger, NoSource(), key, utc_now())
    assert found is not None
    return found


async def record(feed: Feed, ledger: Ledger, subject: Subject) -> Tried:
    """As one operator would."""
    throttles = Throttles()
    async with PartnerClient([feed], throttles, shown=SHOWN_HEADERS) as client:
        trial = Trial(feed, ledger, client, throttles, settings=_settings("worker"))
        return await trial.record(subject, By("ada@desk"), begun)


def _settings(who: str) -> DeliverySettings:
    return DeliverySettings(who, LEASE, 50, LEASE / 1000)


async def test_of_two_trials_and_a_worker_that_want_a_row_at_once_one_sends_it(
    ledger: Ledger,
) -> None:
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(recording(requests)) as url:
        feed = feed_to(url)
        batch = await log_batch(ledger, 1, now=utc_now())
        subject = await subject_of(feed, ledger, "1")

        async def work() -> dict[Outcome, int] | None:
            async with PartnerClient([feed]) as client:
                return await Delivering(ledger, client, _settings("w")).deliver(feed, batch.id)

        first, second, worker = await asyncio.gather(
            record(feed, ledger, subject), record(feed, ledger, subject), work()
        )
    assert [first.recorded, second.recorded, worker is not None].count(True) == 1
    assert len(requests) == 1
    (attempt,) = await ledger.attempts.of_delivery("orders:1")
    assert attempt["outcome"] == "delivered"
    assert attempt["worker"] == ("w" if worker is not None else "ada@desk (feeds test)")


async def test_a_row_in_doubt_is_asked_for_first_as_a_worker_would(ledger: Ledger) -> None:
    heads: list[bytes] = []

    async def has_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with raw_partner(has_it) as url:
        feed = feed_to(url, status_url=f"{url}/by-key/{{key}}")
        batch = await log_batch(ledger, 1, now=utc_now())
        claimed = await ledger.batches.claim(batch.id, batch.feed, "w", utc_now(), LEASE)
        assert claimed is not None
        (row,) = await ledger.deliveries.load(claimed)
        lost = Verdict(Outcome.UNKNOWN, "Deadline", utc_now() + LEASE, in_doubt=True)
        await ledger.deliveries.fail(claimed, [Result(row, Answer(utc_now(), 1), lost)], utc_now())
        await ledger.batches.settle(claimed)
        tried = await record(feed, ledger, await subject_of(feed, ledger, "1"))
    assert [head.split(b" http")[0] for head in heads] == [b"get /by-key/1"]
    assert tried.delivered
    assert tried.answer is not None
    assert tried.answer.note == "status_url: the partner has the row; nothing was sent"


FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "URL/rows", timeout = "60s" }
"""


async def test_one_that_is_interrupted_leaves_its_attempt_on_record_and_its_batch_free(
    tmp_path: Path, ledger: Ledger, mongo_database_url: str, clean_redis_url: str
) -> None:
    await log_batch(ledger, 1, 2, now=utc_now() + LEASE)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await silent(reader, writer)

    async with raw_partner(hang) as url:
        (tmp_path / "feeds.toml").write_text(FEEDS.replace("URL", url), encoding="utf-8")
        servers = {
            "MONGO_URL": mongo_database_url,
            "REDIS_URL": clean_redis_url,
            "SHUTDOWN_GRACE": "200ms",
        }
        source = {"SOURCE_URL": f"sqlite:///{tmp_path}/shop.db", "PYTHONPATH": str(ROOT)}
        words = ("-m", "app", "feeds", "test", "orders", "--key", "1", "--send", "--record")
        command = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            cwd=tmp_path,
            env={**os.environ, **servers, **source},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(120):
            await arrived.wait()
            command.send_signal(signal.SIGINT)
            said, _ = await command.communicate()
    assert (command.returncode, b"# verdict: unknown; again in about " in said) == (1, True)
    (attempt,) = await ledger.attempts.of_delivery("orders:1")
    assert (attempt["outcome"], attempt["error"].partition(":")[0]) == ("unknown", "Shutdown")
    assert await _states(ledger) == {"orders:1": "retrying", "orders:2": "queued"}
    (batch,) = await ledger.batches.due(utc_now(), 10)
    assert batch.rows == 2
    claimed = await ledger.batches.claim(batch.id, batch.feed, "w", utc_now(), LEASE)
    assert claimed is not None
    assert claimed.delivery_ids == ("orders:1", "orders:2")


async def _states(ledger: Ledger) -> dict[str, str]:
    found: list[Document] = await listed(ledger, "orders")
    return {document["_id"]: document["state"] for document in found}
