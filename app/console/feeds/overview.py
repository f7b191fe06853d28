"""How everything is doing, read once for all who look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.configuration.loaded import Loaded
from app.console.feeds.lags import Lags
from app.core.clock import Clock
from app.ledger.heartbeats import Configured
from app.reads.history import Histories, Step
from app.reads.processes import Process, read_processes
from app.reads.status import FeedStatus, Status, read_status
from app.runtime.operator import Operator
from config import Partly

STEP, STEPS = timedelta(minutes=5), 12


@dataclass(frozen=True, slots=True)
class Line:
    """One feed."""

    status: FeedStatus
    hour: Sequence[Step]
    """The last hour, by `STEP`."""

    @property
    def dead(self) -> int:
        """Dead letters."""
        return self.status.states["dead"]

    @property
    def delivered(self) -> int:
        """Within the hour."""
        return sum(step.counts.delivered for step in self.hour)

    @property
    def failed(self) -> int:
        """Attempts that did not deliver, within the hour."""
        return sum(step.counts.failed for step in self.hour)


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it."""

    at: datetime
    lines: Sequence[Line]
    processes: Sequence[Process]
    status: Status
    configured: Configured
    """Which feeds.toml the console itself goes by."""

    def line(self, feed: str) -> Line | None:
        """That of a feed."""
        return next((line for line in self.lines if line.status.feed == feed), None)


async def read_overview(
    loaded: Loaded, operator: Operator, lags: Lags, histories: Histories, now: Clock
) -> Overview:
    """Read it now: of each feed a constant number of questions. Raises the ledger's errors; Redis
    and the source may be away."""
    config, ledger = loaded.current, operator.ledger
    status = await read_status(
        Partly(config, (), frozenset(config.feeds)), ledger, lags, operator.broker, settled=False
    )
    lines = [Line(one, await histories.read(one.feed, now(), STEP, STEPS)) for one in status.feeds]
    processes = await read_processes(ledger, config, now())
    return Overview(now(), lines, processes, status, loaded.told())
