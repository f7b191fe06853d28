"""`ping`: send the verification task through broker, worker and result backend."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated

import typer
from celery.exceptions import TimeoutError as NoAnswer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.cli.output import AsJson, duration_option, fail, load_config, print_fields, print_json


def ping(
    timeout: Annotated[
        timedelta, typer.Option(parser=duration_option, show_default="10s", help="How long to wait for a worker.")
    ] = timedelta(seconds=10),
    as_json: AsJson = False,
) -> None:
    """Send `add(2, 3)` through broker, worker and result backend, and say how long each leg took."""
    load_config()
    from tasks.health import add  # noqa: PLC0415 - imports the Celery application, which needs the configuration

    started = time.time()
    try:
        pending = add.delay(2, 3)
        sent = time.time()
        total = pending.get(timeout=timeout.total_seconds())
        answered = time.time()
        done = pending.date_done.timestamp() if pending.date_done else answered
        pending.forget()
    except NoAnswer:
        pending.forget()
        fail(f"no worker answered within {timeout.total_seconds():g} s: is one running, with the queue `maintenance`?")
    except (OperationalError, RedisError, OSError) as error:
        fail(f"broker: {error}")
    if total != 5:
        fail(f"the worker answered {total} for 2 + 3")
    legs = {
        "to_broker_ms": round((sent - started) * 1000, 1),
        "through_worker_ms": round((done - sent) * 1000, 1),
        "result_back_ms": round((answered - done) * 1000, 1),
        "total_ms": round((answered - started) * 1000, 1),
    }
    if as_json:
        print_json({"ok": True, **legs})
    else:
        print_fields({"answer": "2 + 3 = 5", **{name: f"{value:.1f}" for name, value in legs.items()}})
