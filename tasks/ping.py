"""The task behind `ping`: a worker adds two numbers, which proves that broker, worker and result
backend work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from celery import shared_task
from celery.exceptions import TimeoutError as NoAnswer
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.broker.depths import unavailable
from config import Config
from tasks.application import make_application
from tasks.base import RelayTask


@shared_task(name="add", base=RelayTask, hands_over=False, ignore_result=False, expires=60)
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered, and when, in seconds since 1970 by this machine's clock."""

    total: int
    started: float
    sent: float
    done: float
    """By the worker's clock."""
    answered: float


def ask(config: Config, x: int, y: int, timeout: timedelta) -> Answer:
    """Have a worker add two numbers. Blocks.

    Raises `TimeoutError` where none answers in time, `BrokerUnavailable` for whatever the broker's
    drivers raise.
    """
    app = make_application(config)
    try:
        with (
            app.connection_for_write() as connection
        ):  # the result backend would try 20 times, and log each
            connection.ensure_connection(max_retries=1, interval_start=0)
        started = time.time()
        pending = app.tasks["add"].delay(x, y)
        sent = time.time()
        total = pending.get(timeout=timeout.total_seconds())
        answered = time.time()
        done = pending.date_done.timestamp() if pending.date_done else answered
        pending.forget()
    except NoAnswer:
        pending.forget()
        raise TimeoutError from None
    except RuntimeError as error:  # the result backend has tried for long enough
        raise unavailable(error.__cause__ or error) from error
    except (OperationalError, RedisError, OSError) as error:
        raise unavailable(error) from error
    return Answer(total, started, sent, done, answered)
