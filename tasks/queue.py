"""The queue that use cases publish to, over Celery. Celery blocks, so each call runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from amqp.exceptions import ChannelError
from celery import Celery
from kombu.exceptions import OperationalError

from app.broker.depths import unavailable
from app.broker.queue import DELIVER
from app.core.batches import NewBatch
from app.feeds.feed import Feed
from tasks.sifting import sift

KNOCK_LASTS_SECONDS = 60
"""Then beat has knocked by itself."""


class CeleryQueue:
    """Sends `deliver` messages."""

    def __init__(self, celery: Celery, feeds: Mapping[str, Feed], lease: timedelta) -> None:
        """`feeds`, `lease`: by which a message is known for one of ours (`tasks.messages.read`)."""
        self._celery = celery
        self._feeds = feeds
        self._lease = lease

    async def publish(self, batches: Sequence[NewBatch]) -> None:
        """Send one message a batch, over one connection. Raises `BrokerUnavailable`."""
        await asyncio.to_thread(self._publish, batches)

    async def depth(self) -> int:
        """Messages that wait in the `deliver` queue. Raises `BrokerUnavailable`."""
        return await asyncio.to_thread(self._depth)

    async def knock(self, task: str) -> None:
        """Send the message of a periodic job's task. Raises `BrokerUnavailable`."""
        await asyncio.to_thread(self._knock, task)

    async def sift(self, existing: Callable[[Iterable[str]], Awaitable[set[str]]]) -> None:
        """Clear the `deliver` queue of messages for batches that are not `existing`: see
        `tasks.sifting`.
        """
        loop = asyncio.get_running_loop()

        def ask(batch_ids: Iterable[str]) -> set[str]:
            return asyncio.run_coroutine_threadsafe(_asked(existing(batch_ids)), loop).result()

        await asyncio.to_thread(self._sift, ask)

    def _sift(self, existing: Callable[[Iterable[str]], set[str]]) -> None:
        with (
            self._translated(),
            self._celery.connection_or_acquire() as connection,
            connection.default_channel.conn_or_acquire() as client,
        ):
            sift(client, existing, self._feeds, self._lease)

    def _publish(self, batches: Sequence[NewBatch]) -> None:
        with self._translated(), self._celery.producer_or_acquire() as producer:
            for batch in batches:
                self._celery.send_task(
                    "deliver",
                    kwargs={"batch": batch.id, "feed": batch.feed, "n": batch.rows},
                    kwargsrepr=f"feed={batch.feed} n={batch.rows} batch={batch.id}",  # what Flower shows
                    producer=producer,
                    ignore_result=True,
                )

    def _knock(self, task: str) -> None:
        with self._translated():
            self._celery.send_task(task, ignore_result=True, expires=KNOCK_LASTS_SECONDS)

    def _depth(self) -> int:
        with self._translated(), self._celery.connection_or_acquire() as connection:
            try:
                declared = connection.default_channel.queue_declare(DELIVER, passive=True)
            except ChannelError:  # 404: Redis has no list where nothing waits
                return 0
        return int(declared.message_count)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever the broker's driver raises becomes `BrokerUnavailable`: the caller's answer is
        the same for all.
        """
        transport = self._celery.connection_for_write()
        raised: tuple[type[BaseException], ...] = (
            *transport.connection_errors,
            *transport.channel_errors,
        )
        try:
            yield
        except (OperationalError, OSError) as error:
            raise unavailable(error) from error
        except raised as error:
            raise unavailable(error) from error


async def _asked(question: Awaitable[set[str]]) -> set[str]:
    return await question
