"""What a report says of a mistake of our own: rows that no request can be made of, and what becomes
of their replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.core.errors import LedgerUnavailable
from app.core.period import parse_period
from app.core.rows import SourceRow
from app.core.states import State
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.auth import OAuth2Auth
from app.feeds.feed import Feed, Rate
from app.ledger import Ledger
from app.ledger.batches import new_batch
from app.ledger.selection import Selection
from app.operations.by import By
from app.operations.replay import Replaying
from app.partner.client import PartnerClient
from app.reports.record import Report
from app.reports.reporting import Reporting
from tests.support.doubles import MemoryQueue, VirtualClock
from tests.support.partners import feed_to, raw_partner, recording

LEASE, FAST = timedelta(minutes=1), Rate(count=100_000, per_seconds=1)
ROWS = 3


class Office:
    """A ledger, a worker and an operator, on one day."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.clock = VirtualClock()
        self.queue = MemoryQueue()
        self._folder = folder

    async def log(self) -> None:
        batch = new_batch("orders", [f"orders:{key}" for key in range(ROWS)])
        await self.ledger.batches.insert([batch], self.clock())
        rows = [
            SourceRow(str(key), key, f'{{"id":{key},"name":"Zoë\\u0007"}}') for key in range(ROWS)
        ]
        await self.ledger.deliveries.log([(batch, rows)], self.clock())
        await self.queue.publish([batch])

    async def send(self, feed: Feed) -> None:
        terms = DeliverySettings("w", LEASE, group_size=10, group_wait=timedelta(milliseconds=20))
        async with PartnerClient([feed]) as client:
            delivering = Delivering(self.ledger, client, terms, now=self.clock)
            while self.queue.messages:
                await delivering.deliver(feed, self.queue.messages.pop(0)[1])
        self.clock.advance(timedelta(minutes=20))

    async def replay(self, feed: Feed) -> None:
        replaying = Replaying(
            self.ledger, self.queue, {"orders": feed}, message_wait=LEASE, now=self.clock
        )
        account = await replaying.replay(Selection((State.DEAD,)), FAST, By("ada"))
        assert account.moved == ROWS
        self.clock.advance(timedelta(minutes=20))

    async def report(self, day: str = "2026-01-01") -> Report:
        work = Reporting(
            self.ledger, ["orders"], zone=ZoneInfo("UTC"), folder=self._folder, now=self.clock
        )
        return (await work.preview(parse_period(day, ZoneInfo("UTC"))))[1]


async def attempts(ledger: Ledger) -> int:
    return await ledger._database["attempts"].count_documents({})


def with_header(url: str, value: str) -> Feed:
    return feed_to(url, headers={"X-Name": value})


async def test_no_request_made_is_no_attempt_and_not_one_without_an_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    office, requests = Office(ledger, tmp_path), list[tuple[bytes, bytes]]()
    await office.log()
    async with raw_partner(recording(requests)) as url:
        await office.send(with_header(url, "$name"))
    report = await office.report()
    assert requests == []
    assert (report.totals.dead, report.totals.unsendable) == (ROWS, ROWS)
    assert report.statuses == {}, "none means that a partner gave no answer"
    assert (report.totals.attempts, report.totals.first_attempts, report.attempt_ms.count) == (
        0,
        0,
        0,
    )
    assert [(reason.count, "column 'name'" in reason.text) for reason in report.dead_reasons] == [
        (ROWS, True)
    ]
    assert report.errors == ()
    assert await attempts(ledger) == 0
    assert {(await _get(ledger, key))["attempts"] for key in range(ROWS)} == {0}


async def test_replayed_dead_letters_are_counted_once_whatever_becomes_of_them(
    ledger: Ledger, tmp_path: Path
) -> None:
    office, requests = Office(ledger, tmp_path), list[tuple[bytes, bytes]]()
    await office.log()
    async with raw_partner(recording(requests)) as url:
        wrong, mended = with_header(url, "$name"), with_header(url, "$name|quote")
        await office.send(wrong)
        await office.replay(wrong)
        await office.send(wrong)
        report = await office.report()
        assert (report.totals.dead, report.totals.revived) == (ROWS, ROWS), (
            "they died twice, and are as many as before"
        )
        assert [reason.count for reason in report.dead_reasons] == [ROWS]
        await office.replay(mended)
        await office.send(mended)
    report = await office.report()
    assert len(requests) == ROWS
    assert (report.totals.delivered, report.totals.dead) == (ROWS, 0), "each row is in one of them"
    assert (report.dead_reasons, report.statuses) == ((), {"200": ROWS})


async def test_what_died_on_one_day_stays_dead_in_its_report_when_it_is_replayed_on_the_next(
    ledger: Ledger, tmp_path: Path
) -> None:
    office, requests = Office(ledger, tmp_path), list[tuple[bytes, bytes]]()
    await office.log()
    async with raw_partner(recording(requests)) as url:
        feed = with_header(url, "$name")
        await office.send(feed)
        office.clock.time = datetime(2026, 1, 2, 6, tzinfo=UTC)
        await office.replay(feed)
        await office.send(feed)
    assert [(await office.report(day)).totals.dead for day in ("2026-01-01", "2026-01-02")] == [
        ROWS,
        ROWS,
    ]


async def test_a_refused_token_is_no_attempt_without_an_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    office, requests = Office(ledger, tmp_path), list[tuple[bytes, bytes]]()
    body = b'{"error":"invalid_client"}'
    refused = (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    await office.log()
    async with raw_partner(recording(requests, refused + body)) as url:
        auth: Mapping[str, object] = {
            "type": "oauth2", "token_url": f"{url}/token", "client_id": "us", "client_secret": "wrong"
        }  # fmt: skip
        feed = feed_to(url, auth=OAuth2Auth.model_validate(auth))
        await office.send(feed)
    assert requests
    assert all(b"post /token" in head for head, _ in requests)
    report = await office.report()
    assert (report.statuses, report.totals.attempts, await attempts(ledger)) == ({}, 0, 0)
    assert (await ledger.cursors.get("orders")).paused, "which says why"


async def _get(ledger: Ledger, key: int) -> dict[str, object]:
    found = await ledger.deliveries.get(f"orders:{key}")
    assert found is not None
    return found


async def test_a_replay_goes_on_where_it_cannot_be_counted(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise LedgerUnavailable("ledger: not primary")

    office, requests = Office(ledger, tmp_path), list[tuple[bytes, bytes]]()
    await office.log()
    async with raw_partner(recording(requests)) as url:
        await office.send(with_header(url, "$name"))
        monkeypatch.setattr(ledger.stats, "add_revived", away)
        await office.replay(with_header(url, "$name|quote"))
        await office.send(with_header(url, "$name|quote"))
    assert len(requests) == ROWS
