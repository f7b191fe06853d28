"""A certificate adds up, or says by how much it does not, in words that an auditor reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.core.certificates import Certificate
from app.core.states import State

AT = datetime(2026, 1, 2, tzinfo=UTC)
WHOLE = Certificate(
    feed="orders",
    at=AT,
    position=10_000,
    source_rows=10_000,
    states={State.DELIVERED: 9_990, State.DEAD: 7, State.SKIPPED: 3},
    begun_at=AT - timedelta(minutes=1),
)


def test_a_sum_that_balances_is_complete() -> None:
    assert WHOLE.complete
    assert WHOLE.account == (
        "10,000 source rows = 9,990 delivered + 7 dead + 3 skipped + 0 cancelled + 0 open, up to position 10000"
    )
    assert WHOLE.remarks == ()


def test_what_is_open_is_queued_or_waits_for_a_retry() -> None:
    certificate = replace(WHOLE, states={State.QUEUED: 9_000, State.RETRYING: 1_000})
    assert (certificate.open, certificate.complete) == (10_000, True)


def test_what_is_missing_and_was_not_healed_is_told_by_key() -> None:
    states = {State.DELIVERED: 9_958}
    certificate = replace(
        WHOLE, states=states, missing=42, missing_ids=tuple(f"orders:{n}" for n in range(42))
    )
    assert (certificate.unaccounted, certificate.complete) == (42, False)
    assert "0 open + 42 missing, up to" in certificate.account
    (remark,) = certificate.remarks
    assert remark == (
        "42 had no delivery, and 0 were logged by this run: "
        + ", ".join(f"orders:{n}" for n in range(10))
        + ", …"
    )


def test_what_was_healed_is_complete_and_told() -> None:
    states = {State.DELIVERED: 9_998, State.QUEUED: 2}
    certificate = replace(
        WHOLE, states=states, missing=2, healed=2, missing_ids=("orders:1", "orders:2")
    )
    assert certificate.complete
    assert certificate.remarks == (
        "2 had no delivery, and all were logged by this run: orders:1, orders:2",
    )


@pytest.mark.parametrize("source_rows", [9_999, 10_001])
def test_a_sum_that_does_not_add_up_is_not_complete(source_rows: int) -> None:
    assert not replace(WHOLE, source_rows=source_rows).complete


def test_what_is_left_out_and_what_was_deleted_is_told() -> None:
    certificate = replace(
        WHOLE,
        awaited=1,
        purged=5_000,
        deleted=3,
        deleted_states={State.DELIVERED: 2, State.DEAD: 1},
        superseded=4,
        since=["0x00000000000007D1", 7],
        position=["0x00000000000007FF", 9],
    )
    assert certificate.complete
    assert (
        "after position 0x00000000000007D1 up to position 0x00000000000007FF" in certificate.account
    )
    assert len(certificate.remarks) == 5
    assert (
        "3 deliveries are of rows deleted from the source since: 1 dead, 2 delivered"
        in certificate.remarks
    )
