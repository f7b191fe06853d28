"""While rows come, a feed is polled without waiting for beat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from celery import Celery

from app.testbed.embedded.stack import Stack
from tests.acceptance.conftest import PATIENT
from tests.support.wait import wait_until

ROWS = 20


def test_one_poll_of_beats_is_enough_for_as_long_as_rows_come(
    tmp_path: Path, shared_ledger: Mapping[str, str]
) -> None:
    """Without beat nothing sweeps either: a row whose first answer were not waited for would not be
    sent again.
    """
    with (
        Stack(
            tmp_path, poll_every="10m", partner_timeout="30s", settings={**PATIENT, **shared_ledger}
        ) as stack,
        Celery(broker=stack.redis.url) as celery,
    ):
        stack.start_worker()
        stack.start_generator(ROWS, rate=4)  # the last comes 5 s after the first

        def accepted() -> int:
            with stack.partner() as partner:
                return int(partner.get("/_simulator/counts").json()["unique"])

        def begun() -> bool:
            celery.send_task("poll", kwargs={"feed": "orders"}, queue="poll", ignore_result=True)
            return accepted() > 0

        wait_until(begun, timeout=60, message="a poll that finds a row")
        wait_until(
            lambda: accepted() == ROWS,
            timeout=60,
            message="every row, though nobody sends a poll any more",
        )
