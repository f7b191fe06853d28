"""The bounds of a reconciliation: how much at a time, how often, and for how long."""

from __future__ import annotations

from datetime import timedelta

WINDOW = 2000
"""Source rows compared together."""
CHUNK = 500
"""Most rows that are read whole together, and most deliveries whose rows are looked up together."""
STRIDE = 50_000
"""Rows, or ids, that one statement counts."""
HEALED_AT_MOST = 10_000
"""Most rows that an unattended run logs. More are reported, and left to an operator or the next
run.
"""
SAVED_EVERY = timedelta(seconds=5)
RESUMED_WITHIN = timedelta(hours=6)
"""An interrupted scan is continued for this long; after that the next one begins anew."""
PATIENCE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before a scan in progress gives up on an unreachable source."""
LONGEST_REST_SECONDS = 1.0
"""Longest pause between two statements; usually as long as the last one took."""
