"""Run cells of the matrix, print a line each, and write `docs/fault-matrix.md` when all were run.

python -m tests.chaos [--quick | --all | --only NAME] [--rows 600] [--rate 100]
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.cells import CELLS, Cell
from tests.chaos.page import Run, page, sums
from tests.chaos.run import RATE, ROWS, run_cell

MATRIX = Path(__file__).resolve().parents[2] / "docs" / "fault-matrix.md"


def main() -> None:
    """Exit code 1 where a promise broke, or no cell has the name."""
    options = _options()
    runs = []
    for run in _run([cell for cell in CELLS if _wanted(cell, options)], options.rows, options.rate):
        runs.append(run)
        _say(run.line())
    _say(sums(runs))
    if options.all:
        text = page(runs, rows=options.rows, rate=options.rate, arguments=shlex.join(sys.argv[1:]))
        MATRIX.write_text(text, encoding="utf-8")
    if not runs or not all(run.held for run in runs):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--all", action="store_true", help="every cell, and write docs/fault-matrix.md"
    )
    which.add_argument(
        "--quick", action="store_true", help="the subset that runs in CI (the default)"
    )
    which.add_argument("--only", metavar="NAME", help="cells whose name contains NAME")
    parser.add_argument("--rows", type=int, default=ROWS, help="in each run")
    parser.add_argument("--rate", type=float, default=RATE, help="rows a second; 0: all at once")
    return parser.parse_args()


def _wanted(cell: Cell, options: argparse.Namespace) -> bool:
    if options.only:
        return options.only in cell.name
    return bool(options.all) or cell.quick


def _run(cells: list[Cell], rows: int, rate: float) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="rowrelay-chaos-") as root:
        for cell in cells:
            if reason := cell.missing():
                yield Run(cell, skipped=reason)
                continue
            try:
                yield Run(cell, run_cell(cell, Path(root), rows=rows, rate=rate))
            except AssertionError as error:
                yield Run(cell, broken=" ".join(str(error).split()))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
