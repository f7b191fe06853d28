"""The life of a process that Celery starts, by Celery's signals: a worker, a child of its pool,
beat, or Flower.
"""

from __future__ import annotations

import atexit
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery import signals

from app.configuration.loaded import say_doubts
from app.core.logs import configure_logging, is_text, log_what_nobody_caught
from app.runtime import descriptors
from tasks import own_signals
from tasks.application import RelayCelery
from tasks.heartbeat import ProcessHeartbeat
from tasks.options import level_asked_for
from tasks.reload import Reloading

if TYPE_CHECKING:
    from app.notifications.stand_in import StandIn


def connect_signals(app: RelayCelery) -> None:
    """Have Celery tell this process of its life. Handlers of one signal run in this order."""
    process = Process(app)
    for handler, *heard in (
        (process.hide_banner, signals.celeryd_init),
        (process.listen_to_hangups, signals.celeryd_init, own_signals.beat_starts),
        (
            process.configure_logging,
            signals.setup_logging,
            signals.import_modules,
        ),  # Flower asks for no logging
        (process.guard_flower, signals.import_modules),
        (process.say_doubts, signals.worker_init, signals.beat_init),
        (process.begin_worker, signals.worker_init),
        (process.begin_child, signals.worker_process_init),
        (process.begin_beat, signals.beat_init),
        (process.heartbeat.begin_worker, own_signals.consumer_starts),
        (process.heartbeat.consumer_turned, own_signals.consumer_turns),
        (process.stand_by, signals.worker_ready, signals.beat_init),
        (process.message_taken, signals.task_received),
        (process.task_begins, signals.task_prerun),
        (process.task_ends, signals.task_postrun),
        (process.drain, signals.worker_shutting_down),
        (process.close, signals.worker_shutdown, signals.worker_process_shutdown),
        (process.heartbeat.end, signals.worker_shutdown),
        (process.stand_down, signals.worker_shutdown),
    ):
        for signal in heard:
            signal.connect(handler, weak=False)


class Process:
    """What one process does when Celery tells it."""

    def __init__(self, app: RelayCelery) -> None:
        self._app = app
        self._reloading = Reloading(app)
        self.heartbeat = ProcessHeartbeat(app, self._reloading)
        self._stand_in: StandIn | None = None

    # --- beginning

    def hide_banner(self, instance: Any, **_: object) -> None:
        """Celery's banner goes to a terminal only: in a log it is no event, and on a full disk it
        ends the worker.
        """
        instance.quiet = instance.quiet or not sys.stdout.isatty()

    def listen_to_hangups(self, **_: object) -> None:
        """In Celery's place."""
        self._reloading.install()

    def configure_logging(self, logfile: str | None = None, **_: object) -> None:
        """As the settings say; `--loglevel` and `--logfile` win over them."""
        settings = self._app.loaded.settings
        configure_logging(level_asked_for() or settings.log_level, settings.log_format, logfile)
        log_what_nobody_caught()

    def guard_flower(self, **_: object) -> None:
        """Flower's pages ask for its login, where one is set; its `/metrics` did not."""
        if "flower.views.monitor" in sys.modules:
            page = sys.modules["flower.views.monitor"].Metrics
            if not hasattr(page.get, "__wrapped__"):
                page.get = import_module("tornado.web").authenticated(page.get)

    def say_doubts(self, **_: object) -> None:
        """Of settings that are likely not meant."""
        say_doubts(self._app.loaded.warnings)

    def begin_worker(self, **_: object) -> None:
        """Before a pool of processes is forked, which then share what is loaded here."""
        from app.monitoring import tracing  # noqa: PLC0415 - a worker has these parts; beat and Flower need none
        from app.runtime import worker  # noqa: F401, PLC0415 - as above
        from tasks import banner  # noqa: PLC0415 - as above

        if not is_text(self._app.loaded.settings.log_format):
            banner.say_events()
        if tracing.wanted():
            tracing.start()
        descriptors.fit(self._app.loaded, self._app.activity)

    def begin_child(self, **_: object) -> None:
        """A process of a pool."""
        self._reloading.start_in_child()

    def begin_beat(self, **_: object) -> None:
        """It sends, and says so."""
        activity = self._app.activity
        activity.sent()
        signals.after_task_publish.connect(lambda **_: activity.sent(), weak=False)
        self.heartbeat.begin_beat()
        atexit.register(self.heartbeat.end)

    def stand_by(self, **_: object) -> None:
        """Tell people of events where no worker does."""
        from app.notifications.notify import CHECK_EVERY  # noqa: PLC0415 - as above: not for Flower
        from app.notifications.stand_in import StandIn  # noqa: PLC0415 - as above
        from app.runtime.senders import open_notifying  # noqa: PLC0415 - as above

        loaded = self._app.loaded
        if loaded.settings.notifies:
            self._stand_in = StandIn(lambda: open_notifying(loaded), CHECK_EVERY)
            self._stand_in.start()
            atexit.register(self.stand_down)

    # --- working

    def message_taken(self, request: Any, **_: object) -> None:
        """From its queue."""
        self._app.activity.taken[request.delivery_info.get("routing_key", "")] += 1

    def task_begins(self, task_id: str, task: Any, **_: object) -> None:
        """In one of the pool's threads."""
        if not _hands_over(task):
            self._app.activity.task_begins(task_id)

    def task_ends(self, task_id: str, task: Any, state: str | None = None, **_: object) -> None:
        """In the same."""
        failed = state != "SUCCESS"
        if not _hands_over(task):
            self._app.activity.task_ends(task_id, task.name, failed=failed)
        elif failed:
            self._app.activity.task_failed(task.name)

    # --- ending

    def drain(self, **_: object) -> None:
        """It was told to stop: begin nothing more."""
        self._app.activity.stopping = True
        self._app.runtime.drain(self._app.loaded.settings.shutdown_grace)

    def close(self, **_: object) -> None:
        """End what is under way, and close every client."""
        from app.monitoring import tracing  # noqa: PLC0415 - as above

        self._app.runtime.close()
        tracing.stop()

    def stand_down(self, **_: object) -> None:
        """Look no more whether somebody must be told."""
        if self._stand_in is not None:
            self._stand_in.stop()


def _hands_over(task: Any) -> bool:
    """What it hands over is counted where it is seen through: `app.core.under_way`."""
    return getattr(task, "hands_over", False)
