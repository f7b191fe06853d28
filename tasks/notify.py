"""Tell people of events; and where the workers do not, whoever notices."""

from __future__ import annotations

import atexit

from celery.signals import beat_init, worker_ready, worker_shutdown

from app.notifications.notify import LOOK_EVERY
from app.notifications.stand_in import StandIn
from app.runtime.senders import open_notifying
from celery_app import app, loaded
from tasks.base import RelayTask, hand_over

_stand_ins: list[StandIn] = []


@app.task(name="notify", base=RelayTask)
def notify() -> None:
    """Look what is on, and tell."""
    hand_over("notify", lambda services: services.notifying.look_if_due())


@worker_ready.connect
@beat_init.connect
def _stand_by(**_: object) -> None:
    if loaded.settings.notifies:
        _stand_ins.append(StandIn(lambda: open_notifying(loaded), LOOK_EVERY))
        _stand_ins[-1].start()
        atexit.register(_stand_down)


@worker_shutdown.connect
def _stand_down(**_: object) -> None:
    while _stand_ins:
        _stand_ins.pop().stop()
