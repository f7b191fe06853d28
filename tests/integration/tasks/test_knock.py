"""A knock for a periodic job goes through a real Redis as a message that a worker takes."""

from __future__ import annotations

from pathlib import Path

import redis

from app.jobs.schedule import JOBS
from tasks.application import open_queue
from tasks.messages import read
from tests.support.console import console_config


async def test_a_knock_is_a_message_that_a_worker_takes(
    tmp_path: Path, clean_redis_url: str
) -> None:
    loaded = console_config(tmp_path, "mongodb://127.0.0.1:1/unused", clean_redis_url)
    queue = open_queue(loaded)
    for job in JOBS:
        await queue.knock(job.task)
    with redis.Redis.from_url(clean_redis_url) as client:
        raw = client.lrange("maintenance", 0, -1)
    hints = [read(one, loaded.feeds, loaded.settings.lease) for one in raw]
    assert sorted(hint.task for hint in hints) == sorted(job.task for job in JOBS)
