"""Celery, prefork or gevent: one task a row.

    celery -A bench.peers.with_celery worker --concurrency 8
    celery -A bench.peers.with_celery worker --pool gevent --concurrency 100

As its documentation advises: a client a process, opened after the fork (`worker_process_init`);
results ignored; acknowledged late, as the task may run twice; many messages reserved, as the tasks
are short (https://docs.celeryq.dev/en/stable/userguide/optimizing.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from celery import Celery
from celery.signals import worker_process_init

from bench.peers import work

app = Celery("bench", broker=work.REDIS_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
)

opened = cache(work.SyncWork)


@worker_process_init.connect
def _open(**_: object) -> None:
    opened()


@app.task(name="deliver")
def deliver(id_: str, payload: str) -> None:
    """Deliver one row. Under gevent there is no fork, so the first task opens the clients."""
    opened().deliver(id_, payload)


def send(page: Sequence[work.Row]) -> None:
    """Send a task a row, over one connection."""
    with app.producer_pool.acquire(block=True) as producer:
        for row in page:
            deliver.apply_async(row, producer=producer)


if __name__ == "__main__":
    # Run as a program this module is `__main__`; the task that is sent by name is the same.
    work.produce(send)
