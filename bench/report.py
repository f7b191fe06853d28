"""What a benchmark found: tables in Markdown, with versions and spread, for the terminal and for
the documentation.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import orjson

from app import VERSION
from app.testbed.embedded.stack import ROOT
from bench.contestants import PEERS
from bench.scene import Scene

DOCUMENT = ROOT / "docs" / "performance.md"

_OURS = (
    "celery",
    "kombu",
    "redis",
    "pymongo",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "uvloop",
    "orjson",
)
_PEERS = {
    "main": (
        "celery",
        "gevent",
        "requests",
        "taskiq",
        "taskiq-redis",
        "dramatiq",
        "redis",
        "hiredis",
    ),
    "saq": ("saq", "redis", "hiredis"),
    "arq": ("arq", "redis", "hiredis"),
}
_ASK = "import sys, importlib.metadata as m; print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]), sep=', ')"


@dataclass(frozen=True, slots=True)
class Section:
    """What one mode found."""

    name: str
    """Between whose markers it stands in the documentation."""
    title: str
    body: str
    """Markdown."""
    data: object
    """The same and more, for `--json`."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table that reads well as it is: the first column to the left, the others to the
    right.
    """
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    texts = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in lines
    ]
    rule = (
        "| "
        + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        + " |"
    )
    return "\n".join([texts[0], rule, *texts[1:]])


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The median, and from where to where the rounds went."""
    if not values:
        return "–"
    middle = form(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form(min(values))}–{form(max(values))})"


def whole(value: float) -> str:
    """`12,345`."""
    return f"{value:,.0f}"


def header(scene: Scene, command: str, load: float) -> str:
    """How, when, where, and with what versions of everything."""
    lines = [
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Rowrelay {VERSION}{_commit()}.",
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load average before: {load:.2f}.",
        f"Servers: {scene.ledger_version()}, {scene.redis_version()}, SQLite {_sqlite()}.",
        f"Rowrelay and the limits: {', '.join(f'{name} {metadata.version(name)}' for name in _OURS)}.",
    ]
    peers = "; ".join(
        filter(None, (_installed(environment, names) for environment, names in _PEERS.items()))
    )
    return "\n".join(
        [*lines, f"Peers: {peers}; HTTP, MongoDB and JSON clients as above."] if peers else lines
    )


def _commit() -> str:
    """At which commit, and whether the tree was changed since; empty outside a repository."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=, modified"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return f" ({told.stdout.strip()})" if told.returncode == 0 else ""


def _processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    found = (
        re.search(r"model name\s*: (.+)", told.read_text(encoding="utf-8"))
        if told.exists()
        else None
    )
    return found[1] if found else platform.machine()


def _sqlite() -> str:
    import sqlite3  # noqa: PLC0415 - for its version alone

    return sqlite3.sqlite_version


def _installed(environment: str, names: Sequence[str]) -> str:
    python = PEERS / environment / "bin" / "python"
    if not python.exists():
        return ""
    asked = subprocess.run(
        [str(python), "-c", _ASK, *names], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()  # of an environment that lacks some, nothing: its peers did not run


def publish(section: Section, head: str, *, write: bool, json_file: Path | None) -> None:
    """Print the section; put it into the documentation and into a JSON file, where that is asked
    for.
    """
    text = f"## {section.title}\n\n{section.body}\n\n{head}\n"
    sys.stdout.write(text + "\n")
    if write:
        write_section(section.name, text)
    if json_file is not None:
        told = {"mode": section.name, "about": head.splitlines(), "data": section.data}
        json_file.write_bytes(
            orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n"
        )


def write_section(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replace what stands between the markers of that name. Raises `ValueError` where the document
    has none.
    """
    begin, end = f"<!-- bench: {name} -->\n", f"<!-- end: {name} -->\n"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{document}: no markers {begin.strip()} and {end.strip()}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def say(text: str) -> None:
    """Progress, for whoever waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Name → median; names without values are left out."""
    return {name: statistics.median(found) for name, found in values.items() if found}
