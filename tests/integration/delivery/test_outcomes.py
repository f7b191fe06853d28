"""What an attempt is on record as: successes that are none, answers that were lost, and rows that
cannot be sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.attempts import Answer, Outcome, Ruling, Verdict
from app.delivery.policy import judge
from app.feeds.feed import Retry
from app.partner.client import PartnerClient
from app.testbed.simulator.faults import Faults
from app.testbed.simulator.partner import serve
from tests.support.partners import OK, delivery, feed_to, raw_partner, recording, send_once

POLICY = Retry(max_attempts=3)


def judged(answer: Answer, attempt: int = 1) -> Verdict:
    now = datetime.now(UTC)
    return judge(answer, attempt=attempt, created_at=now, policy=POLICY, now=now, draw=lambda: 0.5)


# A success that is none


@pytest.mark.parametrize(
    ("otherwise", "outcome"), [("retry", Outcome.RETRY), ("dead", Outcome.DEAD)]
)
async def test_a_2xx_that_fails_the_feeds_check_is_a_failure(
    otherwise: str, outcome: Outcome
) -> None:
    success = {"json": {"path": "accepted", "equals": False}, "otherwise": otherwise}
    async with serve() as partner:
        answer = await send_once(feed_to(partner.url, success=success))
    assert answer.status == 200
    verdict = judged(answer)
    assert (verdict.outcome, verdict.pause_reason) == (outcome, None)
    assert verdict.reason == "200: success check: accepted is true, not false"


async def test_a_2xx_that_meets_the_check_is_delivered() -> None:
    success = {"status": [200], "json": {"path": "accepted", "equals": True}}
    async with serve() as partner:
        assert (
            judged(await send_once(feed_to(partner.url, success=success))).outcome
            is Outcome.DELIVERED
        )


async def test_the_check_does_not_soften_other_answers() -> None:
    success = {"status": [200], "otherwise": "retry"}
    async with serve(Faults(statuses={404: 1})) as partner:
        assert (
            judged(await send_once(feed_to(partner.url, success=success))).outcome is Outcome.DEAD
        )


async def test_an_answer_too_long_to_keep_is_still_checked() -> None:
    body = b'{"pad":"' + b"x" * 10_000 + b'","ok":true}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with raw_partner(recording([], head + body)) as url:
        answer = await send_once(feed_to(url, success={"json": {"path": "ok", "equals": True}}))
    assert judged(answer).outcome is Outcome.DELIVERED
    assert len(answer.body) == 2048


# Lost answers


@pytest.mark.parametrize("fault", ["hang", "cut", "lost_answer", "cut_answer", "garbage", "drip"])
async def test_a_request_whose_answer_was_lost_is_unknown_and_goes_again(fault: str) -> None:
    async with serve(Faults.model_validate({fault: 1})) as partner:
        answer = await send_once(feed_to(partner.url, timeout="300ms"))
    verdict = judged(answer)
    assert answer.ruling is Ruling.LOST
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.next_attempt_at is not None
    assert judged(answer, attempt=3).outcome is Outcome.DEAD


async def test_a_request_that_was_never_sent_is_a_plain_retry() -> None:
    async with serve() as gone:
        url = gone.url
    for target in (url, "http://partner.invalid"):
        answer = await send_once(feed_to(target))
        assert answer.ruling is Ruling.FAILED
        assert judged(answer).outcome is Outcome.RETRY


# Asking before sending again


def asking_feed(url: str, **partner: Any) -> Any:
    return feed_to(url, status_url=f"{url}/status/{{id}}", **partner)


async def test_a_row_that_the_partner_has_is_delivered_without_being_sent_again() -> None:
    async with serve(Faults(lost_answer=1, limit=1)) as partner:
        feed = asking_feed(partner.url)
        async with PartnerClient([feed]) as client:
            lost = await client.send(feed, delivery())
            answer = await client.send(feed, delivery(in_doubt=True))
        assert lost.ruling is Ruling.LOST
        assert (answer.status, answer.note) == (
            200,
            "status_url: the partner has the row; nothing was sent",
        )
        assert judged(answer).outcome is Outcome.DELIVERED
        assert partner.accepted_keys == {"orders:1": 1}
        assert partner.counts()["requests"] == 1


async def test_a_row_that_the_partner_has_not_is_sent() -> None:
    async with serve(Faults(cut=1, limit=1)) as partner:
        feed = asking_feed(partner.url)
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery())
            answer = await client.send(feed, delivery(in_doubt=True))
        assert (answer.status, answer.note) == (200, None)
        assert partner.asked == ["orders:1"]
        assert partner.accepted_keys == {"orders:1": 1}


async def test_a_row_that_is_not_in_doubt_is_not_asked_for() -> None:
    async with serve() as partner:
        await send_once(asking_feed(partner.url))
        assert partner.asked == []


@pytest.mark.parametrize("head", ["500 Oops", "401 No", "302 Found", "204 Nothing", "not HTTP"])
async def test_a_status_url_that_does_not_tell_keeps_the_row_from_being_sent(head: str) -> None:
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(
        recording(requests, f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())
    ) as url:
        answer = await send_once(asking_feed(url), delivery(in_doubt=True))
    assert answer.status is None
    assert str(answer.error).startswith("status_url: ")
    verdict = judged(answer)
    assert (verdict.outcome, verdict.pause_reason) == (Outcome.UNKNOWN, None)
    assert [request.split(b" ")[0] for request, _ in requests] == [b"get"]


async def test_the_question_carries_our_credentials_and_the_keys_as_they_are() -> None:
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(recording(requests, OK)) as url:
        feed = feed_to(
            url, {"type": "bearer", "token": "t0ken"}, status_url=f"{url}/rows/{{key}}?id={{id}}"
        )
        await send_once(feed, delivery("A%20B", in_doubt=True))
    head = requests[0][0]
    assert head.startswith(b"get /rows/a%20b?id=orders:a%2520b http/1.1\r\n")
    assert b"authorization: bearer t0ken" in head


async def test_the_question_carries_an_access_token() -> None:
    async with serve(Faults(lost_answer=1, limit=1)) as partner:
        partner.issuer.required = True
        auth = {
            "type": "oauth2",
            "token_url": f"{partner.url}/oauth/token",
            "client_id": "simulator",
        }
        feed = asking_feed(partner.url, auth={**auth, "client_secret": "simulator-secret"})
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery())
            assert (await client.send(feed, delivery(in_doubt=True))).status == 200
        assert partner.counts()["requests"] == 1


# Rows that cannot be sent


async def test_a_row_that_no_request_can_be_made_of_is_a_dead_letter_and_nothing_is_sent() -> None:
    async with serve() as partner:
        answer = await send_once(feed_to(partner.url, body={"x": "$gone"}))
        verdict = judged(answer)
        assert (verdict.outcome, verdict.pause_reason) == (Outcome.DEAD, None)
        assert verdict.reason == "body: the row has no column 'gone'; it has id, name"
        assert partner.counts()["requests"] == 0
