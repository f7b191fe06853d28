"""Signals of our own, where Celery has none: beat starts, a consumer starts, its loop turns."""

from __future__ import annotations

from celery.utils.dispatch import Signal

beat_starts = Signal(name="beat_starts")
"""Beat is starting. Sent in the main thread."""
consumer_starts = Signal(name="consumer_starts")
"""A worker's `consumer` is about to connect for the first time. A pool's processes have been
forked.
"""
consumer_turns = Signal(name="consumer_turns")
"""A `consumer`'s event loop turns: every `CONSUMER_TURN` (`tasks/consumer.py`)."""
