"""Write the page of a quiet and of a bad day, from generated statistics: what `docs/reports.md`
shows as pictures.

python -m bench.report_pages FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from zoneinfo import ZoneInfo

from app.core.certificates import Certificate
from app.core.period import parse_period
from app.core.states import State
from app.reports.compile import compile_reports
from app.reports.page import page
from tests.support.buckets import day_of

ZONE = ZoneInfo("Europe/Berlin")
PERIOD = parse_period("2026-11-21", ZONE)


def certificate(feed: str, rows: int, dead: int, missing: int) -> Certificate:
    ids = tuple(f"{feed}:{rows - place}" for place in range(missing))
    states = {State.DELIVERED: rows - dead - missing, State.DEAD: dead}
    return Certificate(feed, PERIOD.end.replace(minute=5), rows, rows, states, missing, ids)


def sample(*, bad: bool) -> str:
    """The page of all feeds: `invoices` is always well, `orders` has a bad day."""
    buckets = {
        "orders": day_of("orders", 42_000, bad=bad),
        "invoices": day_of("invoices", 3_800, seed=5),
    }
    lost = (52, 3) if bad else (0, 0)
    certificates = {
        "orders": certificate("orders", 412_344, *lost),
        "invoices": certificate("invoices", 30_120, 0, 0),
    }
    return page(compile_reports(PERIOD, ZONE, buckets, certificates, PERIOD.end)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, bad in (("quiet", False), ("bad", True)):
        path = folder / f"report-{name}-day.html"
        path.write_text(sample(bad=bad), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
