"""A lease is renewed while the work goes on, whatever keeps single renewals from the ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.core.clock import Clock, utc_now
from app.core.errors import LeaseLost, LedgerRefused, LedgerUnavailable, RowrelayError
from app.core.renewal import kept_renewed

LEASE = timedelta(seconds=0.3)
NOW = utc_now()


class Renewals:
    """Renewals that fail as they are told to, then succeed."""

    def __init__(self, *failures: RowrelayError) -> None:
        self._failures = list(failures)
        self.made = 0
        self.enough = asyncio.Event()
        """Set by the second that succeeds, and when the lease is lost."""
        self.lost: list[LeaseLost] = []

    async def renew(self) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.made += 1
        if self.made == 2:
            self.enough.set()

    def lose(self, why: LeaseLost) -> None:
        self.lost.append(why)
        self.enough.set()

    async def during_work(self, now: Clock = utc_now) -> None:
        async with kept_renewed(LEASE, self.renew, now, self.lose):
            await asyncio.wait_for(self.enough.wait(), 30)


@pytest.mark.parametrize(
    "failure", [LedgerUnavailable("an election"), LedgerRefused("a code that nobody judged")]
)
async def test_a_renewal_that_fails_is_made_again_before_the_lease_has_run_out(
    failure: RowrelayError,
) -> None:
    renewals = Renewals(failure)
    await renewals.during_work(lambda: NOW)
    assert (renewals.made, renewals.lost) == (2, [])


async def test_a_lease_that_is_anothers_is_given_up_at_once() -> None:
    lost = LeaseLost("another holds it")
    renewals = Renewals(lost)
    await renewals.during_work()
    assert (renewals.made, renewals.lost) == (0, [lost])


async def test_a_lease_that_ran_out_is_given_up_with_what_kept_it_from_being_renewed() -> None:
    renewals = Renewals(*[LedgerUnavailable("no primary")] * 1000)
    await renewals.during_work()
    assert [str(why) for why in renewals.lost] == [
        "the lease ran out before it could be renewed: no primary"
    ]


async def test_work_that_is_through_ends_the_renewing() -> None:
    renewals = Renewals()
    async with asyncio.timeout(30):
        async with kept_renewed(timedelta(minutes=1), renewals.renew, utc_now, renewals.lose):
            pass
    assert (renewals.made, renewals.lost) == (0, [])


async def test_work_that_fails_ends_the_renewing_too() -> None:
    renewals = Renewals()
    with pytest.raises(ZeroDivisionError):
        async with kept_renewed(timedelta(minutes=1), renewals.renew, utc_now, renewals.lose):
            raise ZeroDivisionError
    assert len(asyncio.all_tasks()) == 1
