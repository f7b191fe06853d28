"""The Celery application: broker, queues, beat schedule. No logic.

celery -A celery_app worker
celery -A celery_app beat
celery -A celery_app flower
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from celery import Celery
from celery.schedules import schedule
from celery.signals import (
    beat_init,
    celeryd_init,
    import_modules,
    setup_logging,
    worker_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.objects import cached_property

import config
from app.configuration.loaded import Loaded, say_doubts
from app.core.clock import LONG_AGO, steady_now, utc_now
from app.core.errors import ConfigError
from app.core.logs import configure_logging, is_text, log_what_nobody_caught
from app.core.redis_url import WrongRedisUrl, parse_redis_url
from tasks.options import level_asked_for, refuse_unsupported

POLL, DELIVER, MAINTENANCE = "poll", "deliver", "maintenance"
TASKS = ("health", "poll", "deliver", "sweep", "report", "reconcile", "purge", "heartbeat", "notify")
"""The files of `tasks/` that hold tasks."""
RETRIES_EVERY = timedelta(seconds=1)
"""How late what is due may be put back on the queue: retries, and batches that waited for the endpoint's clock."""
TICK_LIVES = timedelta(seconds=10)
"""A tick lives for at least so long: one that comes every second would expire on every queue that is a second long."""
ORPHANS_EVERY = timedelta(minutes=5)
NOTIFY_EVERY = timedelta(seconds=30)
"""How often a worker looks what people must be told of (`app/notifications/notify.py`), where anybody is to be told."""
JOBS_EVERY = timedelta(minutes=1)
"""How often beat knocks for a periodic job. Which periods are due is for the ledger to say (`app/jobs/periodic.py`)."""
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "tasks.transport:Transport"))
"""What kombu speaks to Redis by. With `broker_transport` log lines would name the class in place of `redis`."""
JOBS = ("report_hour", "report_day", "reconcile", "purge")


def _periodic(task: str, every: timedelta, **kwargs: Any) -> dict[str, Any]:
    """A beat entry whose message expires when the next one is due, more or less: a backlog of ticks helps nobody.

    It is due when beat starts: one that is restarted again and again still sends everything.
    """
    seconds = every.total_seconds()
    options = {"expires": max(seconds, TICK_LIVES.total_seconds())}
    return {
        "task": task,
        "schedule": schedule(seconds, nowfun=steady_now),
        "kwargs": kwargs,
        "options": options,
        "last_run_at": LONG_AGO,
    }


def beat_schedule(loaded: config.Config) -> dict[str, dict[str, Any]]:
    """One poll entry a feed, the retries, the sweep, notifications, and a knock for each periodic job."""
    polls = {f"poll:{name}": _periodic("poll", feed.poll_every, feed=name) for name, feed in loaded.feeds.items()}
    jobs = {task: _periodic(task, JOBS_EVERY) for task in JOBS}
    sweeps = {
        "retries": _periodic("retries", RETRIES_EVERY),
        "sweep": _periodic("sweep", loaded.settings.sweep_every),
        "adopt_orphans": _periodic("adopt_orphans", ORPHANS_EVERY),
    }
    notify = {"notify": _periodic("notify", NOTIFY_EVERY)} if loaded.settings.notifies else {}
    return polls | sweeps | notify | jobs


class RelayCelery(Celery):
    """Celery, with a beat that prints its banner to people alone, and the clock that all processes go by."""

    def now(self) -> datetime:
        """The moment from which a message's `expires` and `countdown` are counted."""
        return utc_now()

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """The beat of `celery beat`."""
        banner = self.loader.import_from_cwd("tasks.banner")  # `celery` itself finds nothing in the working directory
        return self.subclass_with_self(banner.Beat)


def make_app(loaded: config.Config) -> Celery:
    """The application for a configuration. Connects to nothing."""
    settings = loaded.settings
    celery = RelayCelery("rowrelay", include=[f"tasks.{name}" for name in TASKS])
    for name in ("worker", "beat"):
        celery.user_options[name].add(refuse_unsupported(name))
    timeout = settings.connect_timeout.total_seconds()
    redis = parse_redis_url(settings.redis_url.get_secret_value())
    celery.conf.update(
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
        },
        result_expires=3600,
        task_ignore_result=True,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.1},
        task_queues=[Queue(name) for name in (POLL, DELIVER, MAINTENANCE)],
        task_default_queue=MAINTENANCE,
        task_routes={"poll": {"queue": POLL}, "deliver": {"queue": DELIVER}},
        worker_pool="threads",
        worker_concurrency=settings.worker_concurrency,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        beat_schedule=beat_schedule(loaded),
        beat_scheduler="tasks.reload:LiveScheduler",  # keeps no file: two beats in one directory would ruin it for both
        timezone="UTC",
    )
    return celery


try:
    loaded = Loaded(config.load())
except ConfigError as error:
    sys.exit(f"rowrelay: {error}")

try:
    app = make_app(loaded.current)
except WrongRedisUrl as error:  # none is set; a wrong one is a problem of the configuration
    sys.exit(f"rowrelay: REDIS_URL: found {error}")


@celeryd_init.connect
def _banner_for_people(instance: Any, **_: object) -> None:
    """Celery's banner goes to a terminal only: in a log it is no event, and on a full disk it ends the worker."""
    instance.quiet = instance.quiet or not sys.stdout.isatty()


@celeryd_init.connect
def _listen_to_hangups(**_: object) -> None:
    from tasks.reload import reloading  # noqa: PLC0415 - tasks import this module

    reloading.install()


@import_modules.connect  # Flower does not ask for logging to be set up
@setup_logging.connect
def _configure_logging(logfile: str | None = None, **_: object) -> None:
    """As the settings say; `--loglevel` and `--logfile` win over them."""
    settings = loaded.settings
    configure_logging(level_asked_for() or settings.log_level, settings.log_format, logfile)
    log_what_nobody_caught()


@import_modules.connect
def _close_metrics(**_: object) -> None:
    """Flower's pages ask for its login, where one is set; its `/metrics` did not."""
    if "flower.views.monitor" in sys.modules:
        page = sys.modules["flower.views.monitor"].Metrics
        if not hasattr(page.get, "__wrapped__"):
            page.get = import_module("tornado.web").authenticated(page.get)


@worker_init.connect
@beat_init.connect
def _say_doubts(**_: object) -> None:
    say_doubts(loaded.warnings)


@worker_init.connect
def _begin_worker(**_: object) -> None:
    from app.monitoring import tracing  # noqa: PLC0415 - a worker has these parts; beat and Flower need none
    from tasks import banner  # noqa: PLC0415
    from tasks.base import fit_descriptors  # noqa: PLC0415

    if not is_text(loaded.settings.log_format):
        banner.say_events()
    if tracing.wanted():
        tracing.start()
    fit_descriptors()


@worker_shutting_down.connect
def _drain(**_: object) -> None:
    from tasks.base import runtime  # noqa: PLC0415 - tasks import this module

    runtime.drain(loaded.settings.shutdown_grace)


@worker_shutdown.connect
@worker_process_shutdown.connect
def _close_runtime(**_: object) -> None:
    from app.monitoring import tracing  # noqa: PLC0415 - as above
    from tasks.base import runtime  # noqa: PLC0415 - tasks import this module

    runtime.close()
    tracing.stop()
