"""The verification task: proves that broker, worker and result backend work together."""

from __future__ import annotations

from celery_app import app
from tasks.base import RelayTask


@app.task(name="add", base=RelayTask, hands_over=False, ignore_result=False, expires=60)
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y
