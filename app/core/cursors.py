"""What the ledger keeps of a feed's reading: its cursor, and when it is polled next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.certificates import DiscrepancyKind
from app.core.clock import AGREED
from app.core.position import Gap, Position, ReadRange
from app.core.rows import Columns


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a feed's deliveries came from: names in small letters, without quotes."""

    table: str
    key: tuple[str, ...]
    strategy: str
    column: str

    def __str__(self) -> str:
        return (
            f"table {self.table}, key {', '.join(self.key)}, cursor {self.strategy} {self.column}"
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """What a poll came across that a certificate will not be complete over."""

    kind: DiscrepancyKind
    said: str
    at: datetime


class FeedMoveKind(StrEnum):
    """What an operator can do with a feed."""

    PAUSED = "paused"
    RESUMED = "resumed"
    REWOUND = "rewound"
    ADOPTED = "adopted"
    """Said to read the source of its deliveries still, though feeds.toml names it otherwise."""


@dataclass(frozen=True, slots=True)
class FeedMove:
    """What an operator did with a feed."""

    kind: FeedMoveKind
    at: datetime
    by: str
    """`user@host`, or a name that people know."""
    why: str | None
    """The reason given; `None`: none was."""
    detail: str
    """In a few words: `polling`, `from id 70 to the beginning`."""


READS_ON = timedelta(seconds=2)
"""How long a worker that has a page more to read is believed to be reading it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A worker that reads page after page."""

    by: str
    """The process."""
    until: datetime
    """From then on it is taken for gone, or too slow to be waited for."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a feed has been read, and what is still missing behind that point."""

    feed: str
    position: Position = None
    gaps: tuple[Gap, ...] = ()
    version: int = 0
    """Counts the moves; the compare-and-set is on it."""
    paused: bool = False
    """The feed is not polled."""
    paused_reason: str | None = None
    sends: bool = True
    """What is owed of it is sent."""
    sending_paused: str | None = None
    """Why it is not sent, where an operator paused that alone."""
    paused_by: str | None = None
    """The operator who made the last pause; `None`: Rowrelay did, because of what it found."""
    last_poll_at: datetime | None = None
    last_row_at: datetime | None = None
    last_error: str | None = None
    failures: int = 0
    """Polls in a row that found the source unavailable."""
    retry_at: datetime | None = None
    """The feed is not polled before then."""
    spans: tuple[ReadRange, ...] = ()
    """What it was given to read, oldest first: the last one is open, up to `position`. What lies in
    none of them, an operator passed over. Empty: nothing was read yet."""
    columns: Columns = ()
    """What is sent of a table whose feed does not name its columns: agreed for all workers. Empty:
    not agreed yet.
    """
    offered: tuple[str, ...] = ()
    """Columns added since, and not sent: known, so that they are not reported again."""
    noted: str | None = None
    """What last changed in the table, and what followed."""
    noted_at: datetime | None = None
    held: str | None = None
    """Rows wait beyond the cursor while pages stay empty: how many, and why."""
    held_since: datetime | None = None
    origin: Origin | None = None
    """What the feed's deliveries came from; `None`: not on record yet."""
    lowest: Position = None
    """Where the table's lowest row stood when reading began: rows below it are new."""
    notices: tuple[Notice, ...] = ()
    """What polls came across, one a kind; a certificate that finds it no more forgets it."""
    moves: tuple[FeedMove, ...] = ()
    """What operators did with the feed, the latest last: as many as the ledger keeps."""
    reading: Reading | None = None
    """Who moved it last, having more to read."""

    def is_read_by_another(self, process: str | None, now: datetime) -> bool:
        """Whether another process than this one reads the next page at the moment. What a wrong
        clock wrote is not believed.
        """
        reading = self.reading
        return (
            reading is not None
            and reading.by != process
            and now < reading.until <= now + READS_ON + AGREED
        )

    @property
    def tells_of_trouble(self) -> bool:
        """Whether the last poll that was noted met with any: the next one that goes well says so."""
        return bool(self.last_error or self.failures or self.retry_at)

    @property
    def stopped(self) -> str | None:
        """What of the feed is paused, and why; `None`: nothing is."""
        said = []
        if self.paused:
            both = not self.sends and not self.sending_paused
            said.append(f"{'paused' if both else 'polling paused'}: {self.paused_reason}")
        if self.sending_paused:
            said.append(f"sending paused: {self.sending_paused}")
        return "; ".join(said) or None


POLL_WAIT_LIMIT = timedelta(minutes=5)
"""The longest that an unavailable source is left alone."""


LONGEST_FOLLOW_UP = timedelta(seconds=30)
"""The furthest ahead that a follow-up poll is sent: a worker keeps its message until then."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A poll that does not wait for beat, because rows are coming."""

    after: timedelta
    """How long after the poll before it."""
    until: datetime
    """When beat's next poll comes, and goes on."""
