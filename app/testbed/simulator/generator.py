"""Writes rows into the embedded source as applications do: steadily, in bursts, or in overlapping
transactions.

    python -m app.testbed.simulator.generator --database PATH --rows 1000 --rate 100 --pattern late-commit

SQLite lets in one writer at a time, so overlapping transactions are played: an id is reserved when
the transaction would have begun, and its row is committed after rows with higher ids, or never.
"""

from __future__ import annotations

import heapq
import json
import math
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Annotated, TypeAlias

import typer

from app.testbed.embedded.source import TABLE, connect, create_source

CHUNK_ROWS = 1000
"""Rows in one transaction when they are written at once."""
STEADY_SECONDS = 0.05
BURST_SECONDS = 5.0
"""A burst is what a steady writer would have written in this time."""
LATE_SHARE = 0.05
LATE_SECONDS = (0.2, 1.0)
"""How long a late row is held back: from, to."""
NOTE_CHARACTERS = 380
"""Makes a row about 500 bytes of JSON."""

_CUSTOMERS = ("Ada Byron", "Ebru Şahin", "José Núñez", "Li Wei", "Oğuz Çelik", "Zoë Müller")
_WORDS = (
    "pallet",
    "invoice",
    "window",
    "ground floor",
    "fragile",
    "call first",
    "repeat order",
    "gift",
    "customs",
)

Row: TypeAlias = tuple[int, str, float, str, str]


class Pattern(StrEnum):
    """How the rows come in time."""

    STEADY = "steady"
    BURST = "burst"
    """The same rows a second on average, but all of `BURST_SECONDS` at once."""
    LATE_COMMIT = "late-commit"
    """Steady, but `LATE_SHARE` of the rows are committed after rows with higher ids."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was written."""

    rows: int
    """Rows committed."""
    rolled_back: int
    """Ids that were reserved and never arrive."""


def generate(
    database: Path,
    rows: int,
    *,
    rate: float = 0.0,
    pattern: Pattern = Pattern.STEADY,
    rollback_share: float = 0.0,
    seed: int = 0,
) -> Tally:
    """Write into the table `orders` of `database`, which is made where it does not exist.

    `rows` counts the ids used, rolled back ones included; `rate` is rows a second, 0 for at once;
    `rollback_share` is the part of the ids that never arrive, 0 to 1. The same seed gives the same
    rows but for their times. Raises `sqlite3.OperationalError` when another writer holds the file
    for more than `source.BUSY_SECONDS`.
    """
    create_source(database)
    with closing(connect(database)) as connection:
        late_share = LATE_SHARE if pattern is Pattern.LATE_COMMIT else 0.0
        writer = _Writer(
            connection, Random(seed), late_share=late_share, rollback_share=rollback_share
        )
        for size, due in _schedule(rows, rate, pattern):
            writer.wait_until(due)
            writer.write(size)
        writer.finish()
        return Tally(writer.committed, writer.rolled_back)


def _schedule(rows: int, rate: float, pattern: Pattern) -> Iterator[tuple[int, float]]:
    """How many rows to write together, and when, in seconds after the start."""
    if rate > 0:
        largest = math.ceil(rate * (BURST_SECONDS if pattern is Pattern.BURST else STEADY_SECONDS))
    else:
        largest = CHUNK_ROWS
    for written in range(0, rows, largest):
        yield min(largest, rows - written), written / rate if rate > 0 else 0.0


class _Writer:
    """Writes rows, and keeps the late ones until their time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        random: Random,
        *,
        late_share: float,
        rollback_share: float,
    ) -> None:
        self.committed = 0
        self.rolled_back = 0
        self._connection = connection
        self._random = random
        self._late_share = late_share
        self._rollback_share = rollback_share
        self._start = time.monotonic()
        self._late: list[tuple[float, Row]] = []

    def write(self, size: int) -> None:
        """Reserve `size` ids and write their rows in one transaction, but for the late and the
        rolled back ones.
        """
        with _transaction(self._connection):
            last = _reserve(self._connection, size)
            rows = [
                row
                for key in range(last - size + 1, last + 1)
                if (row := self._draw(key, last)) is not None
            ]
            self._insert(rows)
        self.committed += len(rows)

    def _draw(self, key: int, last: int) -> Row | None:
        """The row with this key if it is to be written now. The last one of a transaction is never
        late.
        """
        fate = self._random.random()
        row = _row(key, self._random)
        if fate < self._rollback_share:
            self.rolled_back += 1
            return None
        if fate < self._rollback_share + self._late_share and key < last:
            heapq.heappush(self._late, (self._elapsed() + self._random.uniform(*LATE_SECONDS), row))
            return None
        return row

    def _insert(self, rows: list[Row]) -> None:
        self._connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608 - a constant

    def wait_until(self, due: float) -> None:
        """Sleep until `due` seconds after the start, writing late rows as their time comes."""
        while True:
            self._write_late()
            wake = min(due, self._late[0][0]) if self._late else due
            if due <= self._elapsed():
                return
            time.sleep(max(0.0, wake - self._elapsed()))

    def finish(self) -> None:
        """Write the late rows that are left, each at its time."""
        while self._late:
            self.wait_until(self._late[0][0])

    def _write_late(self) -> None:
        rows = []
        while self._late and self._late[0][0] <= self._elapsed():
            rows.append(heapq.heappop(self._late)[1])
        if rows:
            with _transaction(self._connection):
                self._insert(rows)
            self.committed += len(rows)

    def _elapsed(self) -> float:
        return time.monotonic() - self._start


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE: a transaction that begins as a reader and is then refused the write lock gets no
    # waiting time.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _reserve(connection: sqlite3.Connection, size: int) -> int:
    """Take the next `size` ids, so that no other writer is given them. Returns the last of them.

    `sqlite_sequence` holds the largest id given so far and may be written to
    (https://sqlite.org/autoinc.html).
    """
    row = connection.execute(
        "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ? RETURNING seq", (size, TABLE)
    ).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO sqlite_sequence VALUES (?, ?) RETURNING seq", (TABLE, size)
        ).fetchone()
    return int(row[0])


def _row(key: int, random: Random) -> Row:
    note = ""
    while len(note) < NOTE_CHARACTERS:
        note += f"{random.choice(_WORDS)} {random.randrange(10_000)}, "
    created_at = datetime.now(UTC).isoformat()
    return (
        key,
        random.choice(_CUSTOMERS),
        random.randrange(100, 1_000_000) / 100,
        note[:NOTE_CHARACTERS],
        created_at,
    )


def main(  # noqa: PLR0917 - typer turns each into an option
    database: Annotated[Path, typer.Option(help="The SQLite file; made where it does not exist.")],
    rows: Annotated[int, typer.Option(min=0, help="Ids to use, rolled back ones included.")] = 1000,
    rate: Annotated[float, typer.Option(min=0, help="Rows a second; 0: all at once.")] = 0.0,
    pattern: Annotated[Pattern, typer.Option(help="How the rows come in time.")] = Pattern.STEADY,
    rollback_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Ids that never arrive.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 0,
) -> None:
    """Write rows into the embedded source, then print one line of JSON: rows committed, ids rolled
    back.
    """
    tally = generate(
        database, rows, rate=rate, pattern=pattern, rollback_share=rollback_percent / 100, seed=seed
    )
    sys.stdout.write(json.dumps(asdict(tally)) + "\n")


if __name__ == "__main__":
    typer.run(main)
