"""What a cell of the matrix is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.chaos.replica_set import ChaosSet
from tests.chaos.scene import Scene

Act: TypeAlias = Callable[[Scene], None]


def nothing() -> None:
    """What most cells need beside the project's packages."""
    return


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment."""

    fault: str
    moment: str
    act: Act
    """Starts workers and rows, does what goes wrong, and says when it is over."""
    quick: bool = False
    """Part of the subset that runs in CI."""
    settings: Mapping[str, str] = field(default_factory=dict)
    members: Callable[[Path], ChaosSet] | None = None
    """Makes the replica set that the ledger is then on, in a directory; without it the ledger is
    the stack's own.
    """
    missing: Callable[[], str | None] = nothing
    """Why the cell cannot run here; `None` where it can."""

    @property
    def name(self) -> str:
        """For the command line: `worker-killed/before-claim`."""
        return f"{self.fault}/{self.moment}".replace(" ", "-")
