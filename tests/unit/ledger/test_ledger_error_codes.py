"""Each code of a server is judged once: it passes, and the same call is made again, or somebody
must act first.
"""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import errors as driver
from pymongo import helpers_shared

from app.core.errors import LedgerRefused
from app.ledger.client import DUPLICATE_KEY, translate
from app.ledger.error_codes import PASSING, PASSING_LABELS, PERMANENT, name_of

PASSES = {
    # What the driver, or the server's own category RetriableError, tries again.
    6, 7, 89, 91, 134, 189, 262, 358, 402, 406, 407, 412, 453, 462, 9001, 10058, 10107, 11600, 11602, 13435, 13436,
    50915, 91331, 10045600,
    # Categories Interruption, CursorInvalidatedError, SystemOverloadedError, SnapshotError,
    # StaleShardVersionError.
    24, 43, 50, 143, 150, 175, 237, 239, 246, 250, 272, 279, 281, 282, 290, 314, 355, 433, 449, 450, 11601,
    13388, 46841,
    # No member that may be asked, or too few that acknowledge.
    64, 100, 133, 216, 365, 371,
    # The server's room, its disk, and Azure Cosmos DB's "request rate is large".
    112, 264, 301, 14031, 16500,
}  # fmt: skip
STAYS = {
    2,
    9,
    13,
    14,
    18,
    20,
    26,
    59,
    67,
    72,
    73,
    79,
    85,
    86,
    96,
    115,
    121,
    148,
    235,
    238,
    322,
    334,
    8000,
    10334,
    11000,
}


@pytest.mark.parametrize("code", sorted(PASSES))
def test_what_passes_is_tried_again(code: int) -> None:
    for error in (
        driver.OperationFailure("why", code),
        driver.WriteError("why", code),
        driver.WriteConcernError("why", code),
    ):
        assert translate(error).retryable


@pytest.mark.parametrize("code", sorted(STAYS))
def test_what_somebody_must_mend_is_not(code: int) -> None:
    assert isinstance(translate(driver.OperationFailure("why", code)), LedgerRefused)


def test_no_code_is_judged_twice_and_none_of_the_drivers_own_lists_is_missed() -> None:
    assert not PASSING.keys() & PERMANENT.keys()
    assert PASSING.keys() >= helpers_shared._RETRYABLE_ERROR_CODES
    assert (name_of(365), name_of(13), name_of(40353)) == (
        "TemporarilyUnavailable",
        "Unauthorized",
        None,
    )


@pytest.mark.parametrize("label", PASSING_LABELS)
@pytest.mark.parametrize("code", [None, 40353])
def test_a_label_says_that_it_passes_whatever_the_code(label: str, code: int | None) -> None:
    answer = {"ok": 0, "errmsg": "why", "code": code, "errorLabels": [label]}
    assert translate(driver.OperationFailure("why", code, answer)).retryable
    concern = {"code": code, "errmsg": "why", "errorLabels": [label]}
    assert translate(
        driver.BulkWriteError({"writeErrors": [], "writeConcernErrors": [concern]})
    ).retryable


def test_a_label_that_says_nothing_of_trying_again_does_not_count() -> None:
    answer = {"ok": 0, "errmsg": "why", "code": 40353, "errorLabels": ["NoWritesPerformed"]}
    assert not translate(driver.OperationFailure("why", 40353, answer)).retryable


@pytest.mark.parametrize("code", sorted(PASSES))
def test_a_bulk_write_that_was_not_acknowledged_is_neither_done_nor_refused(code: int) -> None:
    """Beside duplicates too, which are what a write that is repeated meets."""
    duplicate = {
        "index": 0,
        "code": DUPLICATE_KEY,
        "errmsg": "E11000 duplicate key",
        "op": {"payload": "a row"},
    }
    for writes in ([], [duplicate]):
        details: dict[str, Any] = {
            "writeErrors": writes,
            "writeConcernErrors": [{"code": code, "errmsg": "waiting for replication timed out"}],
        }
        assert translate(driver.BulkWriteError(details)).retryable


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (301, "Retryable writes are not supported"),
        (
            2,
            'Retryable writes are not supported. Please disable them by specifying "retrywrites=false"',
        ),
        (
            20,
            "This MongoDB deployment does not support retryable writes. Please add retryWrites=false",
        ),
    ],
    ids=["Amazon DocumentDB", "Azure Cosmos DB", "the driver of MongoDB"],
)
def test_a_server_without_retryable_writes_is_told_what_to_do(code: int, text: str) -> None:
    """301 is MongoDB's code for damaged data, which passes once another member is primary."""
    refused = translate(
        driver.OperationFailure(text, code, {"ok": 0, "code": code, "errmsg": text})
    )
    assert isinstance(refused, LedgerRefused)
    assert "add retryWrites=false to MONGO_URL" in str(refused)
