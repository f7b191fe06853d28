"""Each feed's share of a worker process: bounded, and never nothing."""

from __future__ import annotations

from app.delivery.shares import AHEAD, Holding, Share, Shares

REQUESTS = 10


def take(shares: Shares, feed: str, rows: int, requests: int = REQUESTS) -> list[Holding]:
    """Take batches of so many rows for as long as there is room."""
    share, held = shares.of(feed), list[Holding]()
    while shares.has_room(share, requests):
        held.append(Holding(share, rows))
    return held


def test_a_feed_holds_rows_for_its_requests_and_some_ahead_whatever_its_batches_hold() -> None:
    assert len(take(Shares(1000), "orders", rows=1)) == AHEAD * REQUESTS
    assert len(take(Shares(1000), "orders", rows=5)) == AHEAD * REQUESTS / 5
    assert len(take(Shares(1000), "orders", rows=1000)) == 1


def test_room_comes_with_rows_that_are_answered_and_not_only_with_whole_batches() -> None:
    shares = Shares(1000)
    held = take(shares, "orders", rows=10)
    held[0].answered(9)
    assert len(take(shares, "orders", rows=10)) == 1
    for one in held:
        one.end()
    assert shares.of("orders") == Share(batches=1, rows=10)


def test_what_is_expected_is_replaced_by_what_came() -> None:
    share = Share()
    one = Holding(share, 100)
    one.loaded(3)
    one.answered(1)
    assert share.rows == 2
    one.answered(5)
    assert share.rows == 0
    one.end()
    assert share == Share()


def test_a_process_that_is_full_has_room_for_one_batch_of_each_feed_and_for_more_as_it_empties() -> (
    None
):
    shares = Shares(8)
    first = take(shares, "first", rows=1)
    assert len(first) == 8
    second = take(shares, "second", rows=1)
    assert len(second) == 4, "half of the process, though the first has all of it"
    first.pop().end()
    assert not shares.has_room(shares.of("first"), REQUESTS), "it makes room down to its half"
    for one in first[3:]:
        one.end()
    assert shares.has_room(shares.of("first"), REQUESTS)
    for number in range(20):
        assert len(take(shares, f"other{number}", rows=1)) >= 1


def test_who_asks_sees_the_feeds_that_have_something_under_way() -> None:
    shares = Shares(8)
    one, _ = Holding(shares.of("orders"), 5), shares.of("idle")
    assert shares.held() == {"orders": (1, 5)}
    one.end()
    assert shares.held() == {}
