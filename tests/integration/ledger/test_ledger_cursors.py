"""Cursors move by compare-and-set: of two polls that read one page, one moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app.core.cursors import Cursor
from app.core.errors import CursorMoved
from app.core.position import Gap
from app.core.rows import Page
from app.ledger import Ledger
from tests.support.ledger import FEED, LATER, NOW, source_rows


def page(position: int, *gaps: Gap) -> Page:
    return Page(tuple(source_rows(position)), position, gaps, full=False)


async def test_a_cursor_comes_back_as_it_was_saved(ledger: Ledger) -> None:
    assert await ledger.cursors.get(FEED) == Cursor(FEED)
    gaps = (Gap(None, 3, NOW), Gap(5, 6, NOW - timedelta(minutes=1)))
    moved = await ledger.cursors.advance(Cursor(FEED), page(7, *gaps), NOW)
    assert moved == await ledger.cursors.get(FEED)
    assert (moved.position, moved.gaps, moved.version) == (7, gaps, 1)
    assert (moved.last_poll_at, moved.last_row_at, moved.last_error) == (NOW, NOW, None)


async def test_the_loser_of_two_polls_moves_nothing(ledger: Ledger) -> None:
    read = await ledger.cursors.get(FEED)
    winner = await ledger.cursors.advance(read, page(5), NOW)
    with pytest.raises(CursorMoved, match=FEED):
        await ledger.cursors.advance(read, page(9, Gap(6, 8, LATER)), LATER)
    assert await ledger.cursors.get(FEED) == winner
    with pytest.raises(CursorMoved):
        await ledger.cursors.advance(read, page(2), LATER)
    assert await ledger.cursors.get(FEED) == winner
    assert (await ledger.cursors.advance(winner, page(9), LATER)).position == 9


@pytest.mark.parametrize("begun", [False, True])
async def test_of_many_polls_at_once_one_wins(ledger: Ledger, begun: bool) -> None:
    if begun:
        await ledger.cursors.advance(Cursor(FEED), page(1), NOW)
    read = await ledger.cursors.get(FEED)
    polls = [ledger.cursors.advance(read, page(10 + i), NOW) for i in range(8)]
    outcomes = await asyncio.gather(*polls, return_exceptions=True)
    moved = [outcome for outcome in outcomes if isinstance(outcome, Cursor)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, CursorMoved)]
    assert (len(moved), len(lost)) == (1, 7)
    assert await ledger.cursors.get(FEED) == moved[0]


async def test_a_poll_without_rows_is_noted_and_moves_nothing(ledger: Ledger) -> None:
    moved = await ledger.cursors.advance(Cursor(FEED), page(5), NOW)
    await ledger.cursors.note_poll(FEED, LATER, "source is away")
    noted = await ledger.cursors.get(FEED)
    assert (noted.last_poll_at, noted.last_error) == (LATER, "source is away")
    assert (noted.position, noted.version, noted.last_row_at) == (5, moved.version, NOW)
    assert (await ledger.cursors.advance(noted, page(6), LATER)).last_error is None


async def test_a_note_before_the_first_page_does_not_stop_it(ledger: Ledger) -> None:
    read = await ledger.cursors.get(FEED)
    await ledger.cursors.note_poll(FEED, NOW)
    assert (await ledger.cursors.advance(read, page(1), NOW)).position == 1


async def test_a_pause_keeps_its_first_reason_until_resumed(ledger: Ledger) -> None:
    await ledger.pauses.pause(FEED, "401")
    await ledger.pauses.pause(FEED, "410")
    cursor = await ledger.cursors.get(FEED)
    assert (cursor.paused, cursor.paused_reason) == (True, "401")
    assert await ledger.pauses.paused() == [FEED]
    assert await ledger.pauses.resume(FEED)
    assert not await ledger.pauses.resume(FEED)
    assert await ledger.pauses.paused() == []
    cursor = await ledger.cursors.get(FEED)
    assert (cursor.paused, cursor.paused_reason) == (False, None)


PAUSES = {
    "": (True, True, None),
    "both": (False, False, "paused: why"),
    "polling": (False, True, "polling paused: why"),
    "sending": (True, False, "sending paused: why"),
    "polling sending": (False, False, "polling paused: why; sending paused: why"),
    "sending polling": (False, False, "polling paused: why; sending paused: why"),
    "polling both": (False, False, "paused: why"),
    "sending both": (False, False, "polling paused: why; sending paused: why"),
    "both -polling": (True, False, "sending paused: why"),
    "both -sending": (False, True, "polling paused: why"),
    "both -polling -sending": (True, True, None),
    "both -sending -polling": (True, True, None),
    "sending both -polling": (True, False, "sending paused: why"),
    "sending both -sending": (False, True, "polling paused: why"),
    "polling sending -polling": (True, False, "sending paused: why"),
    "polling sending -sending": (False, True, "polling paused: why"),
    "polling sending -both": (True, True, None),
    "polling -sending": (False, True, "polling paused: why"),
    "sending -polling": (True, False, "sending paused: why"),
}
"""What is paused, and with a minus resumed, one after the other → whether the feed is polled, and
sent, and what is said."""


@pytest.mark.parametrize("steps", PAUSES)
async def test_polling_and_sending_are_paused_and_resumed_each_by_itself(
    ledger: Ledger, steps: str
) -> None:
    pauses = ledger.pauses
    moves: dict[str, Callable[[], Awaitable[object]]] = {
        "both": lambda: pauses.pause(FEED, "why"),
        "polling": lambda: pauses.pause(FEED, "why", sending=True),
        "sending": lambda: pauses.pause_sending(FEED, "why"),
        "-both": lambda: pauses.resume(FEED),
        "-polling": lambda: pauses.resume_polling(FEED),
        "-sending": lambda: pauses.resume_sending(FEED),
    }
    for step in steps.split():
        await moves[step]()
    cursor = await ledger.cursors.get(FEED)
    polled, sent, said = PAUSES[steps]
    assert (not cursor.paused, cursor.sends, cursor.stopped) == (polled, sent, said)
    assert await pauses.paused() == ([] if sent else [FEED])
    assert (await pauses.pauses_and_resumes())[0] == ([] if sent else [FEED])


async def test_a_pause_outlives_a_poll_that_was_under_way(ledger: Ledger) -> None:
    read = await ledger.cursors.get(FEED)
    await ledger.pauses.pause(FEED, "401")
    assert (await ledger.cursors.advance(read, page(1), NOW)).paused
