"""What the runs came to: a line for each, their sums, and the page `docs/fault-matrix.md`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from tests.chaos.cells import Cell
from tests.chaos.scene import Books

_PAGE = """\
# Fault matrix

Written by `scripts/chaos {arguments}`: {runs} with real worker, beat, Redis and MongoDB processes.
In each, {rows:,} rows flow at {rate:,g} a second while one thing goes wrong. After each run source, ledger and partner
are compared by key: no row lost, every row delivered, nothing accepted by the partner more often than attempts are on
record for it, nothing accepted again unless an attempt before is on record as unknown (this bounds the duplicates), no
more requests at the partner than attempts on record, and no batch left. The ledger is read as a majority has it.

**{sums}**

*Kills* are processes killed. *Duplicates* are requests that the partner accepted under a key it had accepted before:
what at-least-once costs. *Recovery* is the time from the fault's end until everything logged by then was settled;
the lease is 5 s here, the sweep comes every second, and a retry waits up to 3 s.

Servers: {servers}. The faults of a *primary*, a *majority* and a *member* are those of a replica set of
three, with keyfile and login and MongoDB's own ten seconds to an election. Where its network is cut, proxies before the
members hold back what one sends to the other, as a network does that drops packets; this needs no root. A member
with a small file system of its own does. Not covered: SQL Server as the source.

| fault | moment | rows | kills | requests | duplicates | recovery | promises |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
{lines}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one cell: its books, or why there are none."""

    cell: Cell
    books: Books | None = None
    broken: str = ""
    """What was waited for in vain."""
    skipped: str = ""
    """Why the cell cannot run here."""

    @property
    def held(self) -> bool:
        """Whether no promise broke; also where none was tried."""
        return not self.broken and not (self.books and self.books.wrong)

    def line(self) -> str:
        """As a line of the table."""
        figures = " | | | |"
        if self.books:
            books = self.books
            figures = f"{books.rows} | {books.kills} | {books.requests} | {books.duplicates} | {books.recovery_s:.1f} s"
        return f"| {self.cell.fault} | {self.cell.moment} | {figures} | {self._verdict()} |"

    def _verdict(self) -> str:
        if self.skipped:
            return f"not run: {self.skipped}"
        wrong = self.broken or "; ".join(self.books.wrong if self.books else ())
        return f"BROKEN: {wrong}" if wrong else "held"


def sums(runs: Sequence[Run]) -> str:
    """All runs together, as a sentence."""
    books = [run.books for run in runs if run.books]
    rows, lost = sum(b.rows for b in books), sum(b.lost for b in books)
    requests, duplicates = sum(b.requests for b in books), sum(b.duplicates for b in books)
    told = f"{rows:,} rows in all, lost {lost:,}; {requests:,} requests, {duplicates:,} of them duplicates."
    if broken := [run.cell.name for run in runs if not run.held]:
        told += f" BROKEN: {', '.join(broken)}."
    if skipped := [run.cell.name for run in runs if run.skipped]:
        told += f" Not run: {', '.join(skipped)}."
    return told


def page(runs: Sequence[Run], *, rows: int, rate: float, arguments: str) -> str:
    """The page, of the runs of every cell."""
    ran = sum(not run.skipped for run in runs)
    count = f"{ran} runs" if ran == len(runs) else f"{ran} of {len(runs)} runs"
    lines = "\n".join(run.line() for run in runs)
    return _PAGE.format(
        runs=count,
        rows=rows,
        rate=rate,
        arguments=arguments,
        sums=sums(runs),
        servers=_servers(),
        lines=lines,
    )


def _servers() -> str:
    return f"{EmbeddedMongo().description}; {EmbeddedRedis().description}; SQLite {sqlite3.sqlite_version}, the source"
