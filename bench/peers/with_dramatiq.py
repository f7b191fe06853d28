"""dramatiq: one message a row.

    dramatiq bench.peers.with_dramatiq --processes 2

As its guide shows: a Redis broker, an actor, the default 8 threads a process. One HTTP client a
process, which its threads share. Messages are encoded by its own JSON encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import work

broker = RedisBroker(url=work.REDIS_URL)
dramatiq.set_broker(broker)

opened = cache(work.SyncWork)


@dramatiq.actor(actor_name="deliver")
def deliver(id_: str, payload: str) -> None:
    """Deliver one row. The first one in a process opens the clients."""
    opened().deliver(id_, payload)


def send(page: Sequence[work.Row]) -> None:
    """Send a message a row."""
    for row in page:
        deliver.send(*row)


if __name__ == "__main__":
    work.produce(send)
