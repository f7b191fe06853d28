"""The cursor strategies: a line each, under the name of its schema in `app.feeds.cursors`."""

from __future__ import annotations

from collections.abc import Mapping

from app.source.cursors.change_tracking import ChangeTracking
from app.source.cursors.identity import Identity
from app.source.cursors.rowversion import Rowversion
from app.source.cursors.strategy import CursorStrategy
from app.source.cursors.timestamp import Timestamp

STRATEGIES: Mapping[str, type[CursorStrategy]] = {
    "rowversion": Rowversion,
    "identity": Identity,
    "timestamp": Timestamp,
    "change_tracking": ChangeTracking,
}
