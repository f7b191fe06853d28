"""What keeps a row from being sent for want of something of our own is no fault of the row, nor of
the partner.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections import Counter
from datetime import timedelta

import pytest

from app.core.attempts import Answer, Outcome, Ruling
from app.core.deliveries import Delivery
from app.core.unforeseen import Troubles
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.ledger import Ledger
from app.partner.failures import Failure, connecting_failed, is_ours
from app.partner.throttle.throttles import Throttles
from tests.support.feeds import make_feed
from tests.support.relay import LEASE, Relay

NOT_YET_VALID = ssl.SSLCertVerificationError(1, "certificate is not yet valid")
NOT_YET_VALID.verify_code = 9
EXPIRED = ssl.SSLCertVerificationError(1, "certificate has expired")
EXPIRED.verify_code = 10
TOO_MANY = "LocalError: Too many open files"


@pytest.mark.parametrize(
    ("error", "failure", "ours"),
    [
        (OSError(errno.EMFILE, "x"), Failure.LOCAL_ERROR, True),
        (OSError(errno.ENFILE, "x"), Failure.LOCAL_ERROR, True),
        (OSError(errno.ENOBUFS, "x"), Failure.LOCAL_ERROR, True),
        (OSError(errno.EADDRNOTAVAIL, "x"), Failure.LOCAL_ERROR, True),
        (OSError(errno.ENETUNREACH, "x"), Failure.NETWORK_ERROR, True),
        (OSError(errno.ENETDOWN, "x"), Failure.NETWORK_ERROR, True),
        (OSError(errno.EHOSTUNREACH, "x"), Failure.CONNECT_ERROR, False),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Failure.CONNECT_ERROR, False),
        (TimeoutError(), Failure.CONNECT_TIMEOUT, False),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Failure.NAME_ERROR, True),
        (socket.gaierror(socket.EAI_NONAME, "x"), Failure.NAME_ERROR, False),
        (NOT_YET_VALID, Failure.CLOCK_ERROR, True),
        (EXPIRED, Failure.TLS_ERROR, False),
    ],
)
def test_what_is_wanting_of_our_own_is_told_from_what_the_partner_does(
    error: OSError, failure: Failure, ours: bool
) -> None:
    assert connecting_failed(error)[0] is failure
    assert is_ours(error) is ours


class Lacking:
    """A client that has no file descriptor left for its first requests."""

    def __init__(self, relay: Relay, times: int) -> None:
        self._relay, self._left = relay, times

    def forget_token(self, feed: str) -> None:
        """There is none."""

    async def send(self, _feed: object, delivery: Delivery) -> Answer:
        if self._left:
            self._left -= 1
            return Answer(self._relay.clock(), 0, error=TOO_MANY, ruling=Ruling.OURS)
        return await self._relay.partner.send(self._relay.feed, delivery)


async def test_a_lack_of_our_own_costs_no_attempt_and_no_breaker_and_is_said(
    ledger: Ledger,
) -> None:
    relay = Relay(ledger, make_feed(batch_size=50, concurrency=50))
    await relay.poll_rows(50)
    troubles, throttles = Troubles(relay.clock), Throttles(now=relay.clock)
    terms = DeliverySettings("w1", LEASE, group_size=50, group_wait=timedelta(milliseconds=20))
    lacking = Lacking(relay, times=30)
    delivering = Delivering(
        ledger, lacking, terms, now=relay.clock, throttles=throttles, troubles=troubles
    )
    outcomes: Counter[Outcome] = Counter()
    while relay.queue.messages:
        outcomes.update(await delivering.deliver(relay.feed, relay.queue.messages.pop(0)[1]) or {})
    assert outcomes == {Outcome.RETRY: 30, Outcome.DELIVERED: 20}
    assert await ledger._database["attempts"].count_documents({}) == 20
    waiting = await ledger._database["deliveries"].find({"state": "retrying"}).to_list()
    assert {(found["attempts"], found["last"]["error"]) for found in waiting} == {(0, TOO_MANY)}
    (trouble,) = troubles.current()
    assert (trouble.name, trouble.error) == ("sending of orders", TOO_MANY)
    throttle = await throttles.of(relay.feed)
    assert throttle.parked_until() is None, "the breaker, which 20 failures would open, is closed"
    assert throttle.slots.limit < 50, "fewer requests at once"
    relay.clock.advance(timedelta(minutes=2))
    await relay.sweeping().sweep()
    while relay.queue.messages:
        await delivering.deliver(relay.feed, relay.queue.messages.pop(0)[1])
    assert set((await relay.states()).values()) == {"delivered"}
    assert troubles.current() == ()
