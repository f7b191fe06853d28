"""OAuth2 client credentials, over sockets: one token for all, renewed in time, and failures that
say what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.attempts import Answer, Outcome, Ruling, Verdict
from app.core.url import parse_url
from app.delivery.policy import judge
from app.feeds.auth import OAuth2Auth
from app.feeds.feed import Feed, Retry
from app.partner.auth.oauth2_tokens import PATIENCE, RENEWED_AGAIN_SECONDS, Tokens
from app.partner.client import PartnerClient
from app.partner.exchange import Reply, Request
from app.partner.failures import Undone
from app.partner.head import Fields
from app.partner.throttle.store import ThrottleStore
from app.partner.throttle.throttles import Throttles
from app.testbed.simulator.partner import Simulator, serve
from tests.support.partners import delivery, feed_to, raw_partner, read_request, recording

SECRET = "simulator-secret"  # noqa: S105  the simulator's


def guarded_feed(url: str, **auth: Any) -> Feed:
    credentials = {"type": "oauth2", "token_url": f"{url}/oauth/token", "client_id": "simulator"}
    return feed_to(url, {**credentials, "client_secret": SECRET, **auth})


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Simulator, Feed, PartnerClient]]:
    """A partner that asks for tokens, a feed that has the credentials, and a client for it."""
    async with serve() as partner:
        partner.issuer.required = True
        feed = guarded_feed(partner.url)
        async with PartnerClient([feed]) as client:
            yield partner, feed, client


def judged(answer: Answer) -> Verdict:
    now = datetime.now(UTC)
    return judge(answer, attempt=1, created_at=now, policy=Retry(), now=now, draw=lambda: 0.5)


async def test_a_hundred_rows_at_once_share_one_token() -> None:
    async with guarded() as (partner, feed, client):
        answers = await asyncio.gather(
            *(client.send(feed, delivery(str(key))) for key in range(100))
        )
        assert {answer.status for answer in answers} == {200}
        assert partner.issuer.asked == 1


async def test_feeds_with_the_same_credentials_share_the_token() -> None:
    async with guarded() as (partner, feed, client):
        other = feed.model_copy(update={"name": "bills"})
        await client.send(feed, delivery())
        await client.send(other, delivery())
        assert partner.issuer.asked == 1


@pytest.mark.parametrize("way", ["basic", "body"])
async def test_the_credentials_go_either_way_to_the_token_endpoint(way: str) -> None:
    async with serve() as partner:
        partner.issuer.required = True
        secret = "p@ss: word/ü"  # noqa: S105  every kind of character
        partner.issuer.client = ("simulator", secret)
        feed = guarded_feed(partner.url, client_secret=secret, client_auth=way, scope="a b")
        async with PartnerClient([feed]) as client:
            assert (await client.send(feed, delivery())).status == 200


async def test_tokens_that_expire_cost_no_row_an_attempt() -> None:
    """That they are renewed before they expire is shown below, with a clock that does not run by
    itself.
    """
    async with guarded() as (partner, feed, client):
        partner.issuer.life_seconds = 2.0
        statuses = set()
        async with asyncio.timeout(20):
            while partner.issuer.asked < 3:
                statuses.add((await client.send(feed, delivery())).status)
                await asyncio.sleep(0.02)
        assert statuses == {200}


async def test_a_withdrawn_token_is_replaced_and_the_row_sent_once_more() -> None:
    async with guarded() as (partner, feed, client):
        await client.send(feed, delivery("1"))
        partner.issuer.withdraw()
        answer = await client.send(feed, delivery("2"))
        assert (answer.status, answer.note) == (200, "401: sent once more with a new access token")
        assert partner.issuer.asked == 2
        assert partner.accepted_keys == {"orders:1": 1, "orders:2": 1}


async def test_a_partner_that_refuses_a_new_token_too_pauses_the_feed() -> None:
    async with guarded() as (partner, feed, client):
        partner.issuer.life_seconds = 0
        answer = await client.send(feed, delivery())
        assert answer.status == 401
        assert "401 Unauthorized" in str(judged(answer).pause_reason)
        assert partner.counts()["requests"] == 2


@pytest.mark.parametrize("status", [500, 503, 401, 404])
async def test_a_token_endpoint_that_fails_is_a_retry_and_nothing_is_sent(status: int) -> None:
    async with guarded() as (partner, feed, client):
        partner.issuer.failing = status
        answer = await client.send(feed, delivery())
        verdict = judged(answer)
        assert (verdict.outcome, verdict.pause_reason) == (Outcome.RETRY, None)
        assert verdict.reason.startswith(
            f"TokenError: no access token to send the row with: the token endpoint answered {status}"
        )
        assert partner.counts()["requests"] == 0


async def test_a_token_endpoint_that_is_not_there_is_a_retry() -> None:
    async with serve() as gone:
        url = gone.url
    async with serve() as partner:
        feed = guarded_feed(partner.url, token_url=f"{url}/oauth/token")
        async with PartnerClient([feed]) as client:
            verdict = judged(await client.send(feed, delivery()))
    assert verdict.outcome is Outcome.RETRY
    assert "TokenError: no access token to send the row with: ConnectError" in verdict.reason


async def test_credentials_that_the_token_endpoint_does_not_know_pause_the_feed() -> None:
    async with guarded() as (partner, feed, client):
        partner.issuer.client = ("simulator", "another")
        answer = await client.send(feed, delivery())
        verdict = judged(answer)
        assert answer.ruling is Ruling.DENIED
        assert "(invalid_client) no such client" in str(verdict.pause_reason)
        assert partner.counts()["requests"] == 0
        assert SECRET not in repr(answer)


async def test_a_failing_token_endpoint_is_asked_once_for_all_who_wait() -> None:
    async with guarded() as (partner, feed, client):
        partner.issuer.failing = 500
        answers = await asyncio.gather(
            *(client.send(feed, delivery(str(key))) for key in range(50))
        )
        assert len({answer.error for answer in answers}) == 1
        assert partner.issuer.asked == 1


async def test_no_token_is_in_an_answer() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

    async with serve() as login, raw_partner(echo) as url:
        feed = guarded_feed(url, token_url=f"{login.url}/oauth/token")
        async with PartnerClient([feed]) as client:
            answer = await client.send(feed, delivery())
    assert "authorization: bearer [secret]" in answer.body
    assert "token-1" not in repr(answer)


# The cache by itself, on a clock of its own


AUTH = OAuth2Auth(
    type="oauth2",
    token_url=parse_url("https://login.example/token"),
    client_id="us",
    client_secret=SecretStr("s3cret-word"),
)


class Endpoint:
    """A token endpoint without a network: it answers what it is told to, when it is let go."""

    def __init__(self) -> None:
        self.time = 0.0
        self.asked = 0
        self.body = b'{"access_token":"t%d","token_type":"bearer","expires_in":1000}'
        self.open = asyncio.Event()
        self.open.set()

    async def exchange(self, request: Request) -> Reply:
        assert request.method == "POST"
        self.asked += 1
        number = self.asked
        await self.open.wait()
        body = self.body % number if b"%d" in self.body else self.body
        return Reply(200, Fields(), body)

    def tokens(self) -> Tokens:
        return Tokens(AUTH, self.exchange, lambda: self.time)


async def test_a_token_about_to_expire_still_serves_while_one_is_fetched() -> None:
    endpoint = Endpoint()
    tokens = endpoint.tokens()
    assert await tokens.get() == "t1"
    endpoint.time = 950.0
    endpoint.open.clear()
    assert [await tokens.get() for _ in range(3)] == ["t1"] * 3
    await asyncio.sleep(0)
    assert endpoint.asked == 2
    endpoint.open.set()
    renewal = tokens._renewal
    assert renewal is not None
    await renewal
    assert await tokens.get() == "t2"


async def test_an_expired_token_is_given_to_nobody() -> None:
    endpoint = Endpoint()
    tokens = endpoint.tokens()
    await tokens.get()
    endpoint.time = 1000.0
    assert await tokens.get() == "t2"


async def test_one_who_is_cancelled_does_not_fail_the_others() -> None:
    endpoint = Endpoint()
    tokens = endpoint.tokens()
    endpoint.open.clear()
    waiting = [asyncio.create_task(tokens.get()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    endpoint.open.set()
    assert await asyncio.gather(*waiting[1:]) == ["t1", "t1"]


async def test_a_token_dropped_late_does_not_take_its_successor_along() -> None:
    endpoint = Endpoint()
    tokens = endpoint.tokens()
    first = await tokens.get()
    tokens.drop(first)
    second = await tokens.get()
    tokens.drop(first)
    assert await tokens.get() == second
    assert tokens.known == ("t2", "t1")


async def test_after_a_failure_the_endpoint_is_left_alone_for_a_moment() -> None:
    endpoint = Endpoint()
    tokens, good = endpoint.tokens(), endpoint.body
    endpoint.body = b"[]"
    for _ in range(2):
        with pytest.raises(Undone, match="the answer is no JSON object"):
            await tokens.get()
    assert endpoint.asked == 1
    endpoint.time, endpoint.body = PATIENCE.total_seconds(), good
    assert await tokens.get() == "t2"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "unexpected character"),
        (b"{}", "missing_token"),
        (b'{"access_token":"a\\r\\nb"}', "a token that no header can carry"),
        (b'{"access_token":null,"token_type":"Bearer"}', "missing_token"),
        (b'{"access_token":"","token_type":"Bearer"}', "missing_token"),
        (b'{"access_token":"  "}', "missing_token"),
        (b'{"access_token":12345}', "missing_token"),
        (b'{"access_token":["a"]}', "missing_token"),
        (b'{"access_token":"a b"}', "a token that no header can carry"),
        (b'{"error":"slow_down"}', "slow_down"),
    ],
)
async def test_an_answer_without_a_token_is_a_failure_that_says_why(body: bytes, told: str) -> None:
    endpoint = Endpoint()
    endpoint.body = body
    with pytest.raises(Undone) as caught:
        await endpoint.tokens().get()
    assert caught.value.ruling is Ruling.OURS
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "life"),
    [
        ("1000", 1000),
        ('"1000"', 1000),
        ("1000.5", 1000.5),
        ('" 1000 "', 1000),
        ("1e3", 1000),
        ("null", 300),
        ('""', 300),
        ("-1", 300),
        ("0", 300),
        ("true", 300),
        ('"soon"', 300),
        ('"2026-01-01T00:00:00Z"', 300),
        ("[]", 300),
        ('"NaN"', 300),
        ('"Infinity"', 300),
        ("9" * 300, 86400),
    ],
)
async def test_a_token_serves_whatever_form_its_life_is_told_in(told: str, life: float) -> None:
    endpoint = Endpoint()
    endpoint.body = (
        f'{{"access_token":"x","expires_in":{told},"scope":null,"token_type":7}}'.encode()
    )
    tokens = endpoint.tokens()
    assert await tokens.get() == "x"
    endpoint.time = life - 0.01
    assert await tokens.get() == "x"
    endpoint.time = life
    await tokens.get()
    assert endpoint.asked >= 2
    await tokens.close()


async def test_a_token_in_a_form_is_read() -> None:
    endpoint = Endpoint()
    endpoint.body = b"access_token=abc&token_type=bearer&expires_in=60"
    assert await endpoint.tokens().get() == "abc"


@pytest.mark.parametrize("status", [429, 503])
async def test_what_the_token_endpoint_asks_us_to_wait_holds_for_all_workers(
    clean_redis_url: str, status: int
) -> None:
    asked: list[tuple[bytes, bytes]] = []
    head = f"HTTP/1.1 {status} No\r\nRetry-After: 20.5\r\nContent-Length: 0\r\n\r\n".encode()
    async with raw_partner(recording(asked, head)) as login, serve() as partner:
        feed = guarded_feed(partner.url, token_url=f"{login}/token")
        other = feed.model_copy(update={"name": "bills"})
        for number, sender in enumerate([feed, feed, other]):
            throttles = Throttles(ThrottleStore(clean_redis_url, f"worker-{number}"))
            async with PartnerClient([sender], throttles) as client:
                for key in range(3):
                    answer = await client.send(sender, delivery(str(key)))
                    assert answer.ruling is Ruling.OURS
                    verdict = judged(answer)
                    assert verdict.next_attempt_at is not None
                    assert verdict.next_attempt_at > datetime.now(UTC) + timedelta(seconds=10)
                    assert verdict.hold_until is None
            await throttles.close()
        assert len(asked) == 1
        assert partner.counts()["requests"] == 0


async def test_a_403_asks_for_a_new_token_once_in_a_while_only() -> None:
    """One row that a firewall blocks, again and again, must not become a flood of requests for
    tokens.
    """
    endpoint = Endpoint()
    tokens = endpoint.tokens()
    assert tokens.refused(await tokens.get(), 403)
    assert await tokens.get() == "t2"
    assert not tokens.refused("t2", 403)
    assert tokens.refused("t2", 401)
    endpoint.time = RENEWED_AGAIN_SECONDS
    assert tokens.refused(await tokens.get(), 403)


async def test_a_token_that_the_api_answers_403_to_is_replaced_and_the_row_sent_once_more() -> None:
    sent: list[bytes] = []

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        sent.append(head)
        status = b"403 Forbidden" if b"bearer token-1\r\n" in head else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with serve() as login, raw_partner(gateway) as url:
        feed = guarded_feed(url, token_url=f"{login.url}/oauth/token")
        async with PartnerClient([feed]) as client:
            answer = await client.send(feed, delivery())
        assert (answer.status, answer.note) == (200, "403: sent once more with a new access token")
        assert login.issuer.asked == 2


async def test_a_feed_that_is_resumed_begins_with_a_new_token() -> None:
    async with guarded() as (partner, feed, client):
        await client.send(feed, delivery("1"))
        client.forget_token(feed.name)
        await client.send(feed, delivery("2"))
        assert partner.issuer.asked == 2


async def test_a_token_of_unknown_life_serves_for_a_while() -> None:
    endpoint = Endpoint()
    endpoint.body = b'{"access_token":"x","scope":"other"}'
    tokens = endpoint.tokens()
    assert [await tokens.get() for _ in range(2)] == ["x", "x"]
    assert endpoint.asked == 1
