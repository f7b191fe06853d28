"""Celery's consumer, made to survive losing Redis again while the lost connection is being closed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from celery.worker.consumer import Consumer
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

from tasks.own_signals import consumer_starts, consumer_turns

log = structlog.get_logger()

CONSUMER_TURN = timedelta(seconds=1)
"""How often a consumer's loop reports progress: as often as an idle one asks Redis for work."""

_connection_parameters: Any = vars(Channel)["_connparams"]  # kombu has no public place for it


def _parameters_while_connected(channel: Any, asynchronous: bool = False) -> Any:
    """On a closed channel kombu 5.7 raises AttributeError, which ends the worker; a lost connection
    does not.
    """
    if channel.connection.client is None:
        raise RedisConnectionError("the channel of this message is closed")
    return _connection_parameters(channel, asynchronous)


setattr(Channel, "_connparams", _parameters_while_connected)  # noqa: B010 - the stubs do not know it


class LastingConsumer(Consumer):
    """See docs/decisions/0013-a-worker-that-lost-redis.md. Says when it asks for work:
    `tasks/heartbeat.py`.
    """

    def start(self) -> None:
        """Connect and consume, until the worker stops."""
        consumer_starts.send(sender=self, consumer=self)
        super().start()

    def register_with_event_loop(self, hub: Any) -> None:
        """Called for each connection; the timer ends with it."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(
            CONSUMER_TURN.total_seconds(), partial(consumer_turns.send, self, consumer=self)
        )

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Clean up after the lost connection as far as possible. Never raises."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - whatever it is: connect again
            log.warning("broker_cleanup_failed", error=str(error), kind=type(error).__name__)
