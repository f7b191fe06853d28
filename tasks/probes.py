"""The clients by which Celery's processes reach Redis, to be tried one by one: each connects in a
way of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from celery import Celery

from app.broker.queue import DELIVER
from config import Config, Settings
from tasks.application import make_application

_WELL = "a connection made"


def probes(settings: Settings) -> Mapping[str, Callable[[], str]]:
    """The check's name → what connects as worker, beat, result backend and Flower do. Each blocks,
    returns what to say of it, and raises whatever its driver does. Raises `BrokerUnavailable` where
    `REDIS_URL` is empty."""
    app = make_application(Config(settings, {}))
    found = {
        "broker: worker and beat": partial(_queue, app),
        "broker: results": partial(_results, app),
    }
    if find_spec("flower"):
        found["broker: Flower"] = partial(_flower, app)
    return found


def _queue(app: Celery) -> str:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
    return _WELL


def _results(app: Celery) -> str:
    backend: Any = app.backend  # Redis's
    backend.client.ping()
    return _WELL


def _flower(app: Celery) -> str:
    from flower.utils import broker  # noqa: PLC0415 - it is no part of every installation

    asked = broker.Broker(
        app.conf.broker_url,
        broker_options=app.conf.broker_transport_options,
        broker_use_ssl=app.conf.broker_use_ssl,
    )
    asyncio.run(asked.queues([DELIVER]))
    return _WELL
