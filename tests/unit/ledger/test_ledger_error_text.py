"""What an operator reads of a driver's error: one line, without the server's raw answer or a row."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import errors as driver

from app.ledger.client import translate

CLUSTER = "$clusterTime: { clusterTime: Timestamp(1732000000, 7), signature: { hash: BinData(0, AB12), keyId: 74 } }"
ANSWER: dict[str, Any] = {
    "ok": 0.0,
    "$clusterTime": {"signature": {"hash": b"AB12", "keyId": 74}},
    "operationTime": "Timestamp(1732000000, 7)",
}
UNAUTHORIZED = (
    'not authorized on ledger to execute command { insert: "cursors", ordered: true, lsid: { id: UUID("1") }, '
    f'txnNumber: 3, {CLUSTER}, $db: "ledger" }}'
)


def _failure(text: str, code: int | None = None) -> driver.OperationFailure:
    return driver.OperationFailure(text, code, ANSWER | {"errmsg": text, "code": code})


ERRORS = {
    "plain": (_failure("Sort exceeded memory", 292), "Sort exceeded memory"),
    "not primary": (driver.NotPrimaryError("not primary", ANSWER), "not primary"),
    "write concern": (driver.WTimeoutError("waiting timed out", 64, ANSWER), "waiting timed out"),
    "unauthorized": (
        _failure(UNAUTHORIZED, 13),
        "not authorized on ledger to execute command insert; "
        "grant readWrite on the ledger's database to the user in MONGO_URL",
    ),
    "no login": (
        _failure("command insert requires authentication", 13),
        "command insert requires authentication; the server wants a login: put user and password into MONGO_URL",
    ),
    "wrong login": (
        _failure("Authentication failed.", 18),
        "Authentication failed; check user, password and authSource in MONGO_URL",
    ),
    "cut off": (_failure(f"too long: {{ update: \"x\", {CLUSTER}, "), "too long: {…}"),
    "lines": (_failure("one\n  two\tthree"), "one two three"),
    "no primary": (
        driver.ServerSelectionTimeoutError(
            'No replica set members match selector "Primary()", Timeout: 5.0s, Topology Description: <… servers: […]>'
        ),
        "no member of the replica set is primary now",
    ),
    "index": (
        _failure('Index already exists. Requested index: { v: 2, key: { at: 1 }, name: "y" }', 85),
        'Index already exists. Requested index: { v: 2, key: { at: 1 }, name: "y" }',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_that_says_what_the_server_said_and_what_to_do(case: str) -> None:
    error, text = ERRORS[case]
    assert str(translate(error)) == f"ledger: {text}"


def test_a_bulk_write_names_each_problem_once_and_no_row() -> None:
    row = {"_id": "orders:1", "payload": '{"card": "4111"}'}
    writes = [{"index": n, "code": 16500, "errmsg": "RetryAfterMs=34", "op": row} for n in range(3)]
    concern = {
        "code": 64,
        "errmsg": "waiting for replication timed out",
        "errInfo": {"wtimeout": True},
    }
    told = str(
        translate(driver.BulkWriteError({"writeErrors": writes, "writeConcernErrors": [concern]}))
    )
    assert told == (
        "ledger: RetryAfterMs=34 (code 16500 RequestRateTooLarge), 3 times; "
        "waiting for replication timed out (code 64 WriteConcernTimeout)"
    )


def test_a_long_text_is_cut_before_the_advice_is() -> None:
    told = str(translate(_failure("x" * 5000, 14031)))
    assert len(told) < 320
    assert told.endswith("free space where MongoDB keeps its data")
