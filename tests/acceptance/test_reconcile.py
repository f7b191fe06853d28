"""Deliveries deleted behind the system's back, and rows passed over by the cursor, with real
processes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pymongo
from pymongo.database import Database

from app.core.clock import utc_now
from app.testbed.embedded.stack import Stack
from tests.support.command import command
from tests.support.wait import wait_until

LOST, SKIPPED, ROWS = 37, 5, 300
POLL_EVERY = 1.0
"""Seconds, as the stack has it: looks that follow a poll end within it."""


def _reconcile(stack: Stack, *options: str) -> tuple[int, Any]:
    """Exit code and certificate."""
    done = command(stack.environment, "reconcile", "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, orjson.loads(done.stdout)["certificates"][0]


def _unpolled(ledger: Database[dict[str, Any]]) -> float:
    """Seconds since the feed was last polled."""
    cursor = ledger["cursors"].find_one({"_id": "orders"})
    assert cursor is not None
    polled_at: datetime = cursor["last_poll_at"].replace(tzinfo=UTC)
    return (utc_now() - polled_at).total_seconds()


def _requests(stack: Stack) -> dict[str, int]:
    with stack.partner() as partner:
        counts: dict[str, int] = partner.get("/_simulator/counts").json()
        return counts


def test_exactly_what_is_missing_is_found_and_delivered(patient: Stack) -> None:
    stack = patient
    stack.start_worker()
    beat = stack.start_beat()
    stack.start_generator(ROWS)
    with pymongo.MongoClient[dict[str, Any]](stack.mongo_url) as client:
        ledger = client.get_default_database()
        deliveries, delivered = ledger["deliveries"], {"state": "delivered"}

        def settled(rows: int) -> bool:
            return deliveries.count_documents(delivered) == rows == deliveries.count_documents({})

        wait_until(lambda: settled(ROWS), timeout=60, message="all rows to be delivered")
        beat.kill()
        wait_until(
            lambda: _unpolled(ledger) > 3 * POLL_EVERY,
            timeout=30,
            message="the last look after beat's last poll",
        )
        lost = [f"orders:{number}" for number in range(100, 100 + LOST)]
        assert deliveries.delete_many({"_id": {"$in": lost}}).deleted_count == LOST
        skipped = [f"orders:{number}" for number in range(ROWS + 1, ROWS + SKIPPED + 1)]
        writer = stack.start_generator(SKIPPED)
        wait_until(lambda: not writer.alive, timeout=30, message="the new rows")
        assert ledger["cursors"].find_one({"_id": "orders"}, {"position": 1})["position"] == ROWS  # type: ignore[index]
        ledger["cursors"].update_one({"_id": "orders"}, {"$inc": {"position": SKIPPED}})

        code, looked = _reconcile(stack, "--dry-run")
        assert (code, looked["source_rows"], looked["missing"], looked["healed"]) == (
            1,
            ROWS + SKIPPED,
            42,
            0,
        )
        assert _requests(stack)["requests"] == ROWS

        code, healed = _reconcile(stack)
        assert (code, healed["missing"], healed["healed"], healed["complete"]) == (0, 42, 42, True)
        assert set(healed["missing_ids"]) == {*lost, *skipped}
        wait_until(
            lambda: settled(ROWS + SKIPPED), timeout=60, message="what was missing to be delivered"
        )

    counts = _requests(stack)
    assert (counts["requests"], counts["unique"]) == (ROWS + LOST + SKIPPED, ROWS + SKIPPED)
    code, certificate = _reconcile(stack)
    assert code == 0
    assert certificate["account"] == (
        "305 source rows = 305 delivered + 0 dead + 0 skipped + 0 cancelled + 0 open, up to position 305"
    )
