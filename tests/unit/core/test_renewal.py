"""A lease is renewed while the work goes on, whatever keeps single renewals from the ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.core.clock import utc_now
from app.core.errors import LeaseLost, LedgerRefused, LedgerUnavailable, RowrelayError
from app.core.renewal import keep_renewed

LEASE = timedelta(seconds=0.3)
NOW = utc_now()


class Renewals:
    """Renewals that fail as they are told to, then succeed."""

    def __init__(self, *failures: RowrelayError) -> None:
        self._failures = list(failures)
        self.ended = asyncio.Event()
        self.made = 0

    async def renew(self) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.made += 1
        if self.made == 2:
            self.ended.set()


@pytest.mark.parametrize("failure", [LedgerUnavailable("an election"), LedgerRefused("a code that nobody judged")])
async def test_a_renewal_that_fails_is_made_again_before_the_lease_has_run_out(failure: RowrelayError) -> None:
    renewals = Renewals(failure)
    assert await keep_renewed(renewals.ended, LEASE, renewals.renew, lambda: NOW) is None
    assert renewals.made == 2


async def test_a_lease_that_is_anothers_is_given_up_at_once() -> None:
    lost = LeaseLost("another holds it")
    assert await keep_renewed(asyncio.Event(), LEASE, Renewals(lost).renew, utc_now) is lost


async def test_a_lease_that_ran_out_is_given_up_with_what_kept_it_from_being_renewed() -> None:
    renewals = Renewals(*[LedgerUnavailable("no primary")] * 1000)
    lost = await keep_renewed(renewals.ended, LEASE, renewals.renew, utc_now)
    assert str(lost) == "the lease ran out before it could be renewed: no primary"


async def test_work_that_is_through_ends_the_renewing() -> None:
    ended = asyncio.Event()
    renewing = asyncio.create_task(keep_renewed(ended, timedelta(minutes=1), Renewals().renew, utc_now))
    ended.set()
    assert await asyncio.wait_for(renewing, 30) is None
