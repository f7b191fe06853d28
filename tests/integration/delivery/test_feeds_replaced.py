"""Feeds that change while a worker runs: what is under way ends as it began, what begins later is
as it now is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.attempts import Answer
from app.core.clock import utc_now
from app.core.errors import ConfigError
from app.core.url import parse_url
from app.feeds.auth import OAuth2Auth
from app.feeds.feed import Breaker, Feed, Partner, Rate
from app.feeds.partner import Tls
from app.ledger import Ledger
from app.partner.client import PartnerClient
from app.partner.throttle.throttle import EndpointThrottle
from app.partner.throttle.throttles import Throttles
from tests.integration.delivery.test_dispatch import World, _all, _world
from tests.support.feeds import make_feed
from tests.support.partners import OK, delivery, feed_to, raw_partner, read_request
from tests.support.wait import until


@pytest.fixture
async def world(ledger: Ledger) -> AsyncIterator[World]:
    async with _world(ledger) as made:
        yield made


def _changed(feed: Feed, **partner: Any) -> Feed:
    return feed.model_copy(update={"partner": feed.partner.model_copy(update=partner)})


# The partner's client


async def test_a_request_under_way_ends_as_it_began_and_the_next_is_as_the_feed_now_is() -> None:
    heads: list[bytes] = []
    answer = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        if len(heads) == 1:
            await answer.wait()
        writer.write(OK)
        await writer.drain()

    async with raw_partner(respond) as url:
        old = feed_to(url, headers={"x-version": "old"}, timeout="60s")
        new = feed_to(url, headers={"x-version": "new"}, timeout="60s")
        async with PartnerClient([old]) as client:
            first = asyncio.create_task(client.send(old, delivery("1")))
            await until(lambda: heads, timeout=30, message="the first request")
            client.serve([new])
            assert (await client.send(new, delivery("2"))).status == 200
            assert (await client.send(old, delivery("3"))).status == 200, (
                "the rest of a batch that began with it"
            )
            answer.set()
            assert (await first).status == 200
    versions = [b"new" if b"x-version: new" in head else b"old" for head in heads]
    assert versions == [b"old", b"new", b"old"]


async def test_a_feed_that_cannot_be_sent_leaves_everything_as_it_was(tmp_path: Path) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    async with raw_partner(respond) as url:
        feed = feed_to(url)
        broken = feed_to(url, tls=Tls(ca_file=str(tmp_path / "none.pem")))
        async with PartnerClient([feed]) as client:
            with pytest.raises(ConfigError, match="PEM"):
                client.serve([broken])
            assert (await client.send(feed, delivery())).status == 200


async def test_connections_tokens_and_ways_follow_the_feeds(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_text(ssl.DER_cert_to_PEM_cert(_any_certificate()), encoding="utf-8")
    auth = OAuth2Auth.model_validate(
        {
            "type": "oauth2",
            "token_url": "https://partner.invalid/token",
            "client_id": "me",
            "client_secret": "s",
        }
    )
    plain = feed_to("https://partner.invalid", concurrency=10)
    secure = feed_to(
        "https://partner.invalid", auth, concurrency=7, tls=Tls(ca_file=str(authorities))
    )
    async with PartnerClient([plain]) as client:
        client.serve([_changed(plain, concurrency=3), secure])
        assert {
            tls and str(tls.ca_file): one.slots.limit for tls, one in client._transports.items()
        } == {
            None: 3,
            str(authorities): 7,
        }
        assert len(client._authorizers) == 1
        contexts = [transport._context for transport in client._transports.values()]
        client.serve([secure])
        (transport,) = client._transports.values()
        assert transport._context not in contexts, (
            "its files are read anew, though the feed is the same"
        )
        client.serve([plain])
        assert (list(client._transports), list(client._authorizers)) == ([None], [])
        assert len(client._routes) == 1


def _any_certificate() -> bytes:
    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    return context.get_ca_certs(binary_form=True)[0]


# The endpoint's throttle


async def test_limits_change_at_once_and_what_the_partner_asked_for_stays() -> None:
    throttles = Throttles()
    feed = make_feed(concurrency=10)
    throttle = await throttles.of(feed)
    changed = _changed(feed, concurrency=4, rate_limit=Rate(count=1, per_seconds=3600))
    throttles.take({feed.name: changed}, (), 1.0)
    assert await throttles.of(feed) is throttle, (
        "a batch under way shares the limits with those that come"
    )
    assert (throttle.slots.limit, throttle.feed) == (4, changed)
    throttles.take({feed.name: _changed(feed, concurrency=20)}, (), 0.5)
    assert throttle.slots.limit == 10, "as much of it as this process has room for"
    throttle.hold(utc_now() + timedelta(minutes=5))
    throttles.take({feed.name: _changed(feed, concurrency=30)}, (), 1.0)
    assert throttle.held_for() > 200
    assert throttle.slots.limit == 1, "it is begun with one after a hold, however many may go"


def _guarded(throttle: EndpointThrottle) -> bool:
    """Asked anew each time."""
    return throttle.guarded


async def test_a_rate_that_came_or_went_holds_for_the_next_request() -> None:
    throttles = Throttles()
    feed = make_feed()
    throttle = await throttles.of(feed)
    assert not _guarded(throttle)
    throttles.take({feed.name: _changed(feed, rate_limit=Rate(count=1, per_seconds=3600))}, (), 1.0)
    assert _guarded(throttle)
    assert await throttle.admit() is None
    assert await throttle.admit() is not None, "one an hour"
    throttles.take({feed.name: feed}, (), 1.0)
    assert await throttle.admit() is None
    assert not _guarded(throttle)


async def test_a_breaker_that_is_switched_off_while_it_is_open_lets_everything_through() -> None:
    throttles, breaker = Throttles(), Breaker(consecutive_failures=1, open_for=timedelta(hours=1))
    feed = make_feed(partner=Partner(url=parse_url("http://partner.invalid/"), breaker=breaker))
    throttle = await throttles.of(feed)
    await throttle.report([Answer(utc_now(), 1, 503)])
    assert await throttle.admit() is not None
    throttles.take({feed.name: _changed(feed, breaker=Breaker(enabled=False))}, (), 1.0)
    assert await throttle.admit() is None
    assert not _guarded(throttle)


async def test_a_feed_that_went_is_synced_no_more_and_one_that_comes_back_has_its_present_limits() -> (
    None
):
    throttles, feed = Throttles(), make_feed(concurrency=10)
    await throttles.of(feed)
    throttles.take({}, [feed.name], 1.0)
    assert throttles.known(feed) is None
    throttles.take({feed.name: _changed(feed, concurrency=2)}, (), 1.0)
    assert (await throttles.of(feed)).slots.limit == 2, "though whoever asks began before it went"


# Batches


async def test_a_batch_under_way_ends_with_its_feed_and_the_next_begins_with_the_present_one(
    world: World,
) -> None:
    worker, feed = world.worker(), make_feed("slow", concurrency=1, batch_size=2)
    worker.hint(feed, await world.log(feed, 8, hold=True))
    await until(lambda: world.partner.requests == 1, timeout=60, message="the first row")
    changed = worker.feeds["slow"] = _changed(feed, method="PUT")
    world.release()
    await until(lambda: _all(world, feed, 8), timeout=60, message="all rows")
    sent = world.partner.feeds
    begun = sum(1 for one in sent if one is feed)
    assert begun in (2, 4), "whole batches: that which was under way, and the one loaded ahead"
    assert [one is changed for one in sent] == sorted(one is changed for one in sent)


async def test_of_a_feed_that_went_nothing_more_is_claimed_and_all_of_it_is_owed_still(
    world: World,
) -> None:
    worker, feed = world.worker(), make_feed("slow", concurrency=1, batch_size=2)
    worker.hint(feed, await world.log(feed, 20, hold=True))
    await until(lambda: world.partner.requests == 1, timeout=60, message="the first row")
    del worker.feeds["slow"]
    world.release()
    await worker.under_way.finished()
    delivered = await world.delivered(feed)
    assert delivered == 2, "what was under way"
    found = world.ledger._database["deliveries"]
    assert await found.count_documents({"feed": "slow", "state": "queued"}) == 20 - delivered
    worker.dispatch.hint("slow", "slow-9", 2)
    await worker.under_way.finished()
    assert await world.delivered(feed) == delivered
    world.worker().hint(feed, (await world.due(feed))[:1])
    await until(lambda: _all(world, feed, 18), timeout=60, message="the rest, by one that has it")
    assert await found.count_documents({"feed": "slow", "state": "queued", "attempts": 0}) == 2, (
        "passed over, for now"
    )
