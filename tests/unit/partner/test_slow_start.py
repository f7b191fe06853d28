"""An endpoint that was left alone is begun with a few requests, and gets more as they go well."""

from __future__ import annotations

from datetime import timedelta

from app.core.attempts import Answer, Ruling
from app.feeds.feed import Breaker, Feed, Partner
from app.partner.throttle.throttle import EndpointThrottle
from tests.support.doubles import VirtualClock
from tests.support.feeds import make_feed

FEW = Breaker(min_requests=20, probes=3, open_for=timedelta(seconds=10))


def _feed(breaker: Breaker = FEW) -> Feed:
    partner = make_feed().partner
    return make_feed(
        partner=Partner(**{**dict(partner), "concurrency": 10, "breaker": breaker}),
    )


class Endpoint:
    """The throttle of one, alone with it."""

    def __init__(self, breaker: Breaker = FEW) -> None:
        self.clock = VirtualClock()
        self.throttle = EndpointThrottle(
            _feed(breaker), now=self.clock, steady=self.clock.steady, draw=lambda: 0.0
        )

    @property
    def at_once(self) -> int:
        return self.throttle.slots.limit

    def answer(self, status: int | None = 200, *, sent: float = 0) -> Answer:
        """To a request that was sent so many seconds ago."""
        return Answer(self.clock() - timedelta(seconds=sent), 1, status)

    def answers(self, *statuses: int | None) -> list[int]:
        """How many may go at once after each."""
        found = []
        for status in statuses:
            self.throttle.answered(self.answer(status))
            found.append(self.at_once)
        return found

    def hold(self, seconds: float) -> None:
        self.throttle.hold(self.clock() + timedelta(seconds=seconds))

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


def test_after_a_hold_one_goes_first_and_each_that_goes_well_lets_one_more_go() -> None:
    endpoint = Endpoint()
    assert endpoint.at_once == 10
    endpoint.hold(5)
    assert endpoint.at_once == 1
    endpoint.wait(6)
    assert endpoint.answers(200, 201, 404) == [2, 3, 4], "the endpoint answered that one, too"
    assert endpoint.answers(*[200] * 10)[-1] == 10
    endpoint.hold(5)
    assert endpoint.at_once == 1, "each time"


def test_one_that_asks_for_patience_again_is_not_asked_by_more() -> None:
    endpoint = Endpoint()
    endpoint.hold(5)
    endpoint.wait(6)
    assert endpoint.answers(429, 503, None, 429) == [1, 1, 1, 1]


def test_answers_to_what_was_sent_before_the_hold_say_nothing() -> None:
    endpoint = Endpoint()
    endpoint.hold(5)
    assert endpoint.answers(200, 200) == [1, 1]
    endpoint.wait(6)
    endpoint.throttle.answered(endpoint.answer(200, sent=7))
    assert endpoint.at_once == 1
    assert endpoint.answers(200) == [2]


async def test_half_open_no_more_than_the_probes_wait_for_their_turn() -> None:
    endpoint = Endpoint()
    await endpoint.throttle.report([endpoint.answer(500)] * 20)
    assert endpoint.throttle.quiet_because() == "its circuit breaker is open"
    assert endpoint.at_once == 3
    endpoint.wait(11)
    assert endpoint.answers(200) == [3], "it closes when all its probes succeed"
    for _ in range(3):
        assert await endpoint.throttle.admit() is None
    await endpoint.throttle.report([endpoint.answer()] * 3)
    assert endpoint.answers(200, 200) == [4, 5]


def test_many_failures_in_a_row_leave_room_for_few_until_the_breaker_is_told() -> None:
    endpoint = Endpoint()
    assert endpoint.answers(*[None] * 19) == [10] * 19
    assert endpoint.answers(200, *[None] * 19)[-1] == 10, "one that went well begins the row anew"
    assert endpoint.answers(None) == [3]
    assert endpoint.answers(200) == [4]


def test_without_a_breaker_failures_change_nothing() -> None:
    assert set(Endpoint(Breaker(enabled=False)).answers(*[500] * 100)) == {10}


def test_what_this_machine_lacks_says_nothing_of_the_endpoint() -> None:
    endpoint = Endpoint()
    endpoint.hold(5)
    endpoint.wait(6)
    ours = Answer(endpoint.clock(), 0, error="no descriptors", ruling=Ruling.OURS)
    for _ in range(50):
        endpoint.throttle.answered(ours)
    assert endpoint.at_once == 1
