"""Makes the Celery application from a configuration: broker, queues, routes, schedule.

Nothing is read and nothing connects at import, nor when it is made: whoever publishes makes one of
the configuration that it has loaded. `celery_app` makes that of the processes which Celery starts.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.imports import symbol_by_name
from kombu.utils.objects import cached_property

from app.broker.queue import DELIVER, MAINTENANCE, POLL, QUEUES
from app.configuration.loaded import LiveFeeds, Loaded
from app.core.clock import utc_now
from config import Config
from tasks.options import refuse_unsupported
from tasks.queue import CeleryQueue
from tasks.schedule import beat_schedule

if TYPE_CHECKING:
    from app.monitoring.heartbeat import Activity
    from app.runtime.loop import Runtime

FILES = ("deliver", "notify", "ping", "poll", "purge", "reconcile", "report", "sweep")
"""The files of `tasks/` that hold tasks."""
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "tasks.transport:Transport"))
"""kombu's transport for Redis. Set as `broker_transport`, log lines would show the class instead of
`redis`.
"""


class RelayCelery(Celery):
    """Celery, its configuration, and what a process that runs tasks needs. Each part is made on
    first use: in a worker after the fork, and never in a process that only publishes."""

    loaded: Loaded

    def now(self) -> datetime:
        """The time from which a message's `expires` and `countdown` count, by the clock that all
        processes share.
        """
        return utc_now()

    @cached_property
    def queue(self) -> CeleryQueue:
        """The queue to the workers."""
        return CeleryQueue(self, LiveFeeds(self.loaded), self.loaded.settings.lease)

    @cached_property
    def activity(self) -> Activity:
        """This process's record of its own progress."""
        from app.monitoring.heartbeat import Activity  # noqa: PLC0415 - as the class says

        return Activity()

    @cached_property
    def runtime(self) -> Runtime:
        """The event loop that tasks hand their work over to."""
        from app.runtime.loop import Runtime  # noqa: PLC0415 - as the class says
        from app.runtime.worker import open_worker  # noqa: PLC0415 - as the class says

        return Runtime(
            lambda: open_worker(
                self.loaded, self.queue, self.activity, delivers=lambda: self.takes_from(DELIVER)
            )
        )

    def takes_from(self, queue: str) -> bool:
        """Whether this worker takes messages from that queue, at this moment."""
        return queue in self.amqp.queues.consume_from

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """The beat of `celery beat`."""
        return self.subclass_with_self(symbol_by_name("tasks.beat:Beat"))


def make_application(config: Config | Loaded) -> RelayCelery:
    """The application for a configuration. Raises `BrokerUnavailable` where `REDIS_URL` is empty."""
    loaded = config if isinstance(config, Loaded) else Loaded(config)
    settings = loaded.settings
    redis = settings.redis
    app = RelayCelery("rowrelay", include=[f"tasks.{name}" for name in FILES])
    app.loaded = loaded
    for command in ("worker", "beat"):
        app.user_options[command].add(refuse_unsupported(command))
    timeout = settings.connect_timeout.total_seconds()
    app.conf.update(
        broker_url=redis.text,
        broker_use_ssl=redis.tls,
        result_backend=redis.text,
        redis_backend_use_ssl=redis.tls,
        redis_socket_connect_timeout=timeout,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_consumer="tasks.consumer:LastingConsumer",
        broker_transport_options={
            "ack_emulation": False,  # docs/decisions/0039-messages-are-hints.md
            "socket_timeout": 4 * timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "feeds": LiveFeeds(loaded),  # of ours, for `tasks/transport.py`
            "lease": settings.lease,
        },
        result_expires=3600,
        task_ignore_result=True,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1},
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=MAINTENANCE,
        task_routes={"poll": {"queue": POLL}, "deliver": {"queue": DELIVER}},
        worker_pool="threads",
        worker_concurrency=settings.worker_concurrency,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        beat_schedule=beat_schedule(loaded.current),
        beat_scheduler="tasks.beat:LiveScheduler",  # keeps no file: two beats in one directory would ruin it for both
        timezone="UTC",
    )
    return app


def open_queue(config: Config | Loaded) -> CeleryQueue:
    """The queue to the workers, for a process that only publishes. Connects on first use. Raises as
    above.
    """
    return make_application(config).queue
