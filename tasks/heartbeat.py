"""The heartbeat of a worker or beat: what it writes to the ledger, and when its consumer last asked
for work.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from celery.worker import state

from app.ledger.heartbeats import Role
from app.monitoring.heartbeat import HeartbeatWriter, Identity, pause_between
from app.runtime.clients import open_broker, open_ledger
from tasks.messages import drops
from tasks.reload import Reloading

if TYPE_CHECKING:
    from tasks.application import RelayCelery


class ProcessHeartbeat:
    """Starts and ends with the process."""

    def __init__(self, app: RelayCelery, reloading: Reloading) -> None:
        self._app = app
        self._reloading = reloading
        self._writers: list[HeartbeatWriter] = []

    def begin_worker(self, consumer: Any, **_: object) -> None:
        """A worker's consumer is about to connect. With a pool of processes these are forked by
        now.
        """
        activity, runtime = self._app.activity, self._app.runtime
        if consumer.hub is not None:
            activity.asked()
        activity.dropped = drops.counts
        self._begin(
            Identity(Role.WORKER, consumer.hostname, tuple(consumer.app.amqp.queues.consume_from)),
            full=lambda: len(state.reserved_requests) >= consumer.pool.num_processes,
            ping=runtime.ping,
            held=runtime.held,
        )
        self._reloading.start(self._write_now, lambda: consumer.pool.info)

    def begin_beat(self) -> None:
        """Beat is about to send."""
        self._begin(Identity(Role.BEAT, f"beat@{socket.gethostname()}"))
        self._reloading.start(self._write_now)

    def consumer_turned(self, consumer: Any, **_: object) -> None:
        """The consumer's loop turns: note when it last asked for work. One that has no room for
        more need not ask.

        Where it takes work from several queues and lost one of them, this does not tell; messages
        that wait do.
        """
        channel = consumer.task_consumer.channel if consumer.task_consumer else None
        if channel is None:
            return
        activity = self._app.activity
        asked_at = getattr(
            channel, "_brpop_sent_at", 0.0
        )  # kombu's Redis channel; other transports are told of work
        if asked_at == 0.0 or not channel.qos.can_consume():
            activity.asked()
        elif asked_at is not None:
            activity.consumed_at = max(activity.consumed_at or 0.0, asked_at)

    def end(self, **_: object) -> None:
        """Remove the heartbeat: the process ends on purpose."""
        while self._writers:
            self._writers.pop().stop()

    def _begin(self, identity: Identity, **options: Any) -> None:
        settings = self._app.loaded.settings
        writer = HeartbeatWriter(
            identity,
            self._app.activity,
            open_ledger=lambda: open_ledger(settings),
            open_broker=lambda: open_broker(settings),
            pause=pause_between(settings.progress_bound),
            configured=self._app.loaded.told,
            **options,
        )
        self._writers.append(writer)
        writer.start()

    def _write_now(self) -> None:
        for writer in self._writers:
            writer.write_now()
