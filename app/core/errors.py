"""Every error Rowrelay raises on purpose.

    RowrelayError
    ├── ConfigError          a setting or a feed is wrong; lists every problem found
    ├── Unavailable          the other side cannot be reached now        (retry)
    │   ├── SourceUnavailable
    │   ├── LedgerUnavailable
    │   ├── BrokerUnavailable
    │   └── ArchiveUnavailable   the archive cannot be written or read: no space, no right, not mounted
    ├── Refused              the other side answered, and says no        (permanent)
    │   ├── SourceRefused    wrong login, missing table or column, no right to read
    │   │   ├── ValueRefused a value, perhaps of a single row, breaks the statement
    │   │   └── ColumnsCame  the table has columns that no one has agreed to send
    │   ├── LedgerRefused    wrong login, no right to write, a rejected command
    │   └── ArchiveDamaged   an archive file is not what was written
    ├── RowUnreadable        one row cannot be turned into JSON           (permanent, that row only)
    ├── CursorMoved          another poll moved the feed's cursor first   (nothing lost; read it again)
    ├── LeaseLost            another worker holds the batch, or the purge (nothing lost; stop)
    ├── UnknownFeed          a feed name that `feeds.toml` does not have  (permanent)
    ├── AmbiguousKey         a key that means several deliveries          (permanent)
    ├── OperationRefused     an operation in bulk that cannot be made, or not moved on as it stands
    └── NotStarted           a process of the demo or the tests did not come up (`app.testbed.embedded.process`)

`retryable` carries the decision, so that no caller has to match on a class or a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


class RowrelayError(Exception):
    """Base of the tree. `str(error)` is one line an operator can act on."""

    retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration."""

    where: str
    """The file, or `environment`."""
    field: str
    """The setting, or `feeds.<name>.<field>`."""
    found: str
    """The value found, masked where it is a secret; `nothing` where it is missing."""
    allowed: str
    """What would be right."""

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: found {self.found}; {self.allowed}"


class ConfigError(RowrelayError):
    """The configuration cannot be used. Holds every problem, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"configuration: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class Unavailable(RowrelayError):
    """The other side cannot be reached now; the same call may succeed later."""

    retryable = True


class SourceUnavailable(Unavailable):
    """The source database cannot be reached, or asks us to wait."""


class LedgerUnavailable(Unavailable):
    """MongoDB cannot be reached, has no primary now, or is overloaded."""

    def __init__(
        self, said: str, *, retry_after: timedelta | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(said)
        self.retry_after = retry_after
        """How long the server asks to wait before a retry."""
        self.unreachable = unreachable
        """No server could be reached."""
        self.too_slow = False
        """It answered, but not within the time that the question was given."""
        self.given_up = False
        """All retries are spent: see `app/ledger/persistence.py`."""


class BrokerUnavailable(Unavailable):
    """Redis cannot be reached. What should have been queued is in the ledger; the sweep queues it."""


class ArchiveUnavailable(Unavailable):
    """The archive's directory cannot be written or read. Nothing is deleted without a verified
    file.
    """


class Refused(RowrelayError):
    """The other side answered and said no; the same call will fail again until someone acts."""


class SourceRefused(Refused):
    """The source database rejected the login, the table, a column or the right to read."""


class ValueRefused(SourceRefused):
    """A value, perhaps of a single row, breaks the statement: it does not convert, overflows, or
    cannot be computed.
    """


class ColumnsCame(SourceRefused):
    """The table has new columns, and the operator wants to be asked before they are sent."""

    def __init__(self, said: str, columns: Sequence[str]) -> None:
        super().__init__(said)
        self.columns = tuple(columns)
        """All columns besides those agreed."""


class LedgerRefused(Refused):
    """MongoDB rejected the login or the command."""


class ArchiveDamaged(Refused):
    """An archive file is not what was written: cut off, changed, or not an archive file."""


class RowUnreadable(RowrelayError):
    """One row holds a value that has no JSON form. The row becomes a dead letter; the feed goes on."""


class CursorMoved(RowrelayError):
    """The compare-and-set on a feed's cursor lost: another poll was faster. The rows are in the
    ledger.
    """

    retryable = True


class LeaseLost(RowrelayError):
    """The lease of a batch, a tick or a purge ran out and another worker took it over."""


class UnknownFeed(RowrelayError):
    """No feed of that name is configured."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"feed {name!r}: not configured; known feeds: {', '.join(known) or 'none'}"
        )


class AmbiguousKey(RowrelayError):
    """What an operator typed matches more than one delivery."""

    def __init__(self, typed: str, ids: Sequence[str]) -> None:
        shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        super().__init__(f"{typed!r}: means {len(ids)} deliveries; name one of them: {shown}")


class OperationRefused(RowrelayError):
    """An operation in bulk cannot be made, or cannot be moved on as it stands."""

    def __init__(self, said: str, field: str | None = None) -> None:
        """`field`: the one at fault; `None`: it is not what was asked, but how things stand."""
        super().__init__(said)
        self.field = field
