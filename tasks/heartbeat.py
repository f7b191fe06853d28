"""Where Celery's worker and beat tell how they get on: signals into `Progress`, and the marker's start and end."""

from __future__ import annotations

import atexit
import socket
from datetime import timedelta
from typing import Any

from celery.signals import (
    after_task_publish,
    beat_init,
    task_postrun,
    task_prerun,
    task_received,
    worker_shutdown,
    worker_shutting_down,
)
from celery.worker import state

from app.ledger.heartbeats import Role
from app.monitoring.heartbeat import HeartbeatWriter, Identity, pause_between
from app.runtime.clients import open_broker, open_ledger
from celery_app import loaded
from tasks.base import progress, runtime
from tasks.messages import drops
from tasks.reload import reloading

CONSUMER_TURN = timedelta(seconds=1)
"""How often a consumer's loop says that it turns: as often as it asks Redis for work when there is none."""

_markers: list[HeartbeatWriter] = []


def begin_worker(consumer: Any) -> None:
    """A worker's consumer is about to connect. With a pool of processes these are forked by now."""
    if consumer.hub is not None:
        progress.asked()
    progress.dropped = drops.counts
    queues = tuple(consumer.app.amqp.queues.consume_from)
    _begin(
        Identity(Role.WORKER, consumer.hostname, queues),
        full=lambda: len(state.reserved_requests) >= consumer.pool.num_processes,
        ping=runtime.ping,
        held=runtime.held,
    )
    reloading.start(_mark_now, lambda: consumer.pool.info)


def consumer_turned(consumer: Any) -> None:
    """The consumer's loop turns: note when it last asked for work. One that has no room for more need not ask.

    Where it takes work from several queues and lost one of them, this does not tell; messages that wait do.
    """
    channel = consumer.task_consumer.channel if consumer.task_consumer else None
    if channel is None:
        return
    asked_at = getattr(channel, "_brpop_sent_at", 0.0)  # kombu's Redis channel; other transports are told of work
    if asked_at == 0.0 or not channel.qos.can_consume():
        progress.asked()
    elif asked_at is not None:
        progress.consumed_at = max(progress.consumed_at or 0.0, asked_at)


def _begin(identity: Identity, **options: Any) -> None:
    settings = loaded.settings
    marker = HeartbeatWriter(
        identity,
        progress,
        open_ledger=lambda: open_ledger(settings),
        open_broker=lambda: open_broker(settings),
        pause=pause_between(settings.progress_bound),
        configured=loaded.told,
        **options,
    )
    _markers.append(marker)
    marker.start()


def _mark_now() -> None:
    for marker in _markers:
        marker.mark_now()


@beat_init.connect
def _begin_beat(**_: object) -> None:
    progress.sent()
    after_task_publish.connect(_sent)
    _begin(Identity(Role.BEAT, f"beat@{socket.gethostname()}"))
    reloading.start(_mark_now)
    atexit.register(_end)


def _sent(**_: object) -> None:
    progress.sent()


@task_received.connect
def _taken(request: Any, **_: object) -> None:
    progress.taken[request.delivery_info.get("routing_key", "")] += 1


@task_prerun.connect
def _task_begins(task_id: str, task: Any, **_: object) -> None:
    if not _hands_over(task):
        progress.task_begins(task_id)


@task_postrun.connect
def _task_ends(task_id: str, task: Any, state: str | None = None, **_: object) -> None:
    if not _hands_over(task):
        progress.task_ends(task_id, task.name, failed=state != "SUCCESS")
    elif state != "SUCCESS":
        progress.task_failed(task.name)


def _hands_over(task: Any) -> bool:
    """What it hands over is counted where it is seen through: `app.core.under_way`."""
    return getattr(task, "hands_over", False)


@worker_shutting_down.connect
def _stopping(**_: object) -> None:
    progress.stopping = True


@worker_shutdown.connect
def _end(**_: object) -> None:
    while _markers:
        _markers.pop().stop()
