"""How much at once, how often, and how long a reconciliation does what."""

from __future__ import annotations

from datetime import timedelta

WINDOW = 2000
"""Source rows looked up together."""
CHUNK = 500
"""Rows that are read whole together, at most; and deliveries whose rows are looked up together."""
STRIDE = 50_000
"""Rows, or ids, that one statement counts."""
HEALED_AT_MOST = 10_000
"""Rows that a run nobody watches logs at most. What is more is told, and left to an operator or the next run."""
SAVED_EVERY = timedelta(seconds=5)
RESUMED_WITHIN = timedelta(hours=6)
"""A walk that was cut off is gone on with for this long; then the next one begins anew."""
PATIENCE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The waits before a walk that has come some way gives a source up that cannot be reached."""
LONGEST_REST_SECONDS = 1.0
"""Between two statements the source is left alone for as long as the last one took, but for no longer than this."""
