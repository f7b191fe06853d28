"""Every error of the driver leaves the ledger as one of ours, with the right advice on trying
again.
"""

from __future__ import annotations

import gc
import inspect
import socket
import time
import warnings
from collections.abc import AsyncIterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from bson import errors as bson_errors
from pymongo import errors as driver

from app.core.errors import LedgerRefused, LedgerUnavailable, RowrelayError
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import DUPLICATE_KEY, translate
from app.ledger.listing import Order
from app.ledger.selection import Selection
from tests.support.ledger import log_batch

_PASSING = (
    driver.ConnectionFailure,
    driver.CursorNotFound,
    driver.ExecutionTimeout,
    driver.WTimeoutError,
)


def _classes(module: ModuleType) -> list[type[Exception]]:
    found = (value for value in vars(module).values() if inspect.isclass(value))
    return [
        found_class
        for found_class in found
        if issubclass(found_class, Exception) and "errors" in found_class.__module__
    ]


def _instance(error_class: type[Exception]) -> Exception:
    """An error of the class, with the least that its constructor needs."""
    if error_class is driver.BulkWriteError:
        return driver.BulkWriteError({"writeErrors": [], "writeConcernErrors": []})
    if error_class is driver.ClientBulkWriteException:
        return driver.ClientBulkWriteException(
            {"error": None, "writeErrors": [], "writeConcernErrors": []}, verbose=False
        )
    if error_class is driver.EncryptedCollectionError:
        return driver.EncryptedCollectionError(ValueError("why"), {})
    if error_class is driver.EncryptionError:
        return driver.EncryptionError(ValueError("why"))
    return error_class("why")


@pytest.mark.parametrize("error_class", [*_classes(driver), *_classes(bson_errors)])
def test_every_driver_error_has_one_of_ours(error_class: type[Exception]) -> None:
    translated = translate(_instance(error_class))
    assert isinstance(
        translated, LedgerUnavailable if issubclass(error_class, _PASSING) else LedgerRefused
    )
    assert "\n" not in str(translated)
    assert len(str(translated)) < 400


@pytest.mark.parametrize("code", [43, 64, 91, 189, 10107, 14031])
def test_a_server_that_changes_its_primary_or_has_no_room_is_unavailable(code: int) -> None:
    assert translate(driver.OperationFailure("why", code)).retryable
    assert translate(driver.WriteConcernError("why", code)).retryable


@pytest.mark.parametrize("code", [13, 18, 2, 9, 59, 121, 79, None])
def test_a_server_that_says_no_refuses(code: int | None) -> None:
    """13: not authorised; 18: wrong login; 121: fails validation; 79: no such write concern."""
    assert isinstance(translate(driver.OperationFailure("why", code)), LedgerRefused)


@pytest.mark.parametrize(
    ("writes", "concerns", "retryable"),
    [
        ([189], [], True),
        ([189, DUPLICATE_KEY], [], True),
        ([], [64], True),
        ([], [91], True),
        ([DUPLICATE_KEY], [64], True),
        ([DUPLICATE_KEY], [], False),
        ([189, 121], [], False),
        ([], [100], True),
        ([], [79], False),
        ([121], [64], False),
    ],
)
def test_a_bulk_write_is_tried_again_only_if_nothing_in_it_was_refused(
    writes: list[int], concerns: list[int], retryable: bool
) -> None:
    details: dict[str, Any] = {
        "writeErrors": [{"code": code} for code in writes],
        "writeConcernErrors": [{"code": code} for code in concerns],
    }
    assert translate(driver.BulkWriteError(details)).retryable is retryable


async def test_a_value_that_has_no_form_in_the_ledger_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerRefused, match="8-byte"):
        await ledger.listing.page(
            Selection((State.DEAD,), feeds=("orders",)), Order.NEWEST, None, 2**70
        )
    with pytest.raises(LedgerRefused, match="surrogates"):
        await ledger.deliveries.get("\ud800")
    with pytest.raises(LedgerRefused):
        await ledger.deliveries.get("a" * (49 * 2**20))


@pytest.mark.parametrize("url", ["mongodb://", "mongodb://host:port/x", "http://localhost"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(LedgerRefused):
        Ledger.at(url, timedelta(seconds=1))


@pytest.fixture
async def nobody_there() -> AsyncIterator[Ledger]:
    """A ledger at a port that is bound, so nobody else's, and not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        opened = Ledger.at(f"mongodb://127.0.0.1:{taken.getsockname()[1]}/x", timedelta(seconds=2))
        yield opened
        await opened.close()
    with warnings.catch_warnings():
        # The driver's monitor leaves the socket of an attempt to connect that close() cuts short to
        # the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_a_server_that_is_down_is_said_to_be_unavailable_at_once(
    nobody_there: Ledger,
) -> None:
    async def error_of(query: Any) -> RowrelayError:
        with pytest.raises(RowrelayError) as raised:
            await query
        return raised.value

    began = time.monotonic()
    for query in (
        nobody_there.version(),
        nobody_there.prepare(),
        nobody_there.cursors.get("orders"),
    ):
        assert isinstance(await error_of(query), LedgerUnavailable)
    assert isinstance(await error_of(log_batch(nobody_there, 1)), LedgerUnavailable)
    assert time.monotonic() - began < 30, "the driver's own patience is 30 s a question"


async def test_the_message_names_the_server_and_leaves_the_drivers_internals_out(
    nobody_there: Ledger,
) -> None:
    with pytest.raises(LedgerUnavailable) as raised:
        await nobody_there.version()
    told = str(raised.value)
    assert told.startswith("ledger: 127.0.0.1:")
    assert "Topology" not in told
    assert "timeouts" not in told
