"""Imports run one way, so that each part can be read, tested and replaced without those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RECORDS = {
    "app", "app.errors", "app.models", "app.endpoint", "app.feed", "app.clock", "app.keys", "app.period",
    "app.unforeseen", "app.events", "app.redis_url", "app.shown", "app.source_url", "app.url",
    "app.wrong_values",
}  # fmt: skip
EDGES = {"app.source", "app.ledger", "app.partner"}
READERS = {"app.broker", "app.health", "app.progress", "app.unconfigured"}
USE_CASES = {"app.poll", "app.deliver", "app.reconcile", "app.replay", "app.report", "app.sweep", "app.rewind"}
COMPARING = {"app.compare", "app.standing"}
USED = {"app.filter", "app.intake", "app.queue", "app.refusals", "app.renewal"}

ALLOWED = {
    "app": set[str](),
    "app.errors": set[str](),
    "app.events": set[str](),
    "app.models": set[str](),
    "app.clock": set[str](),
    "app.keys": {"app.models"},
    "app.lookup": RECORDS | {"app.ledger"},
    "app.period": {"app.clock"},
    "app.unforeseen": {"app.clock", "app.errors"},
    "app.url": set[str](),
    "app.redis_url": set[str](),
    "app.shown": set[str](),
    "app.source_url": set[str](),
    "app.spelling": set[str](),
    "app.env_file": {"app.errors"},
    "app.wrong_values": {"app.spelling"},
    "app.endpoint": {"app.url"},
    "app.feed": {"app.endpoint", "app.url", "app.wrong_values"},
    "app.compare": RECORDS | {"app.ledger"},
    "app.standing": RECORDS | {"app.source"},
    "app.archive": RECORDS | {"app.archive", "app.hold", "app.ledger"},
    "app.broker": RECORDS,
    "app.filter": {"app.feed", "app.models"},
    "app.intake": RECORDS | EDGES | {"app.compare", "app.filter", "app.queue"},
    "app.configured": RECORDS | {"app.ledger"},
    "app.feed_state": {"app.models", "app.partner"},
    "app.flow": RECORDS | {"app.ledger"},
    "app.loaded": RECORDS | {"app.ledger", "config"},
    "app.reload": {"app.errors", "app.feed", "app.loaded", "config"},
    "app.health": RECORDS | {"app.configured", "app.ledger", "app.periodic", "app.unconfigured"},
    "app.unconfigured": RECORDS | {"app.ledger"},
    "app.descriptors": {"app.feed"},
    "app.hold": RECORDS | {"app.ledger", "app.renewal"},
    "app.logs": {"app.shown"},
    "app.metrics": RECORDS
    | EDGES
    | READERS
    | {"app.intake", "app.metrics", "app.periodic", "config"}
    | {"app.loaded", "app.reload"},
    "app.pace": set[str](),
    "app.loop_thread": set[str](),
    "app.progress": RECORDS | {"app.broker", "app.ledger", "app.loop_thread"},
    "app.queue": {"app.models"},
    "app.reread": RECORDS | EDGES | {"app.filter"},
    "app.renewal": RECORDS,
    "app.shares": set[str](),
    "app.under_way": RECORDS | {"app.progress"},
    "app.dispatch": RECORDS | EDGES | {"app.deliver", "app.shares", "app.under_way"},
    "app.source": RECORDS | {"app.source"},
    "app.ledger": RECORDS | {"app.ledger"},
    "app.partner": RECORDS | {"app.partner"},
    "app.refusals": {"app.feed", "app.ledger", "app.models"},
    **dict.fromkeys(USE_CASES, RECORDS | EDGES | COMPARING | USED),
    "app.replay": RECORDS | EDGES | USED | {"app.reread"},
    "app.reconcile": RECORDS | EDGES | COMPARING | USED | {"app.reconcile"},
    "app.sweep": RECORDS | {"app.ledger", "app.queue", "app.unconfigured"},
    "app.purge": RECORDS | {"app.archive", "app.hold", "app.ledger", "app.pace"},
    "app.conditions": RECORDS | EDGES | {"app.broker", "app.health", "app.periodic"},
    "app.notify": RECORDS | {"app.conditions", "app.ledger", "app.outbox", "app.reporting"},
    "app.stand_in": {"app.errors", "app.loop_thread", "app.notify"},
    "app.outbox": RECORDS | {"app.ledger", "app.reporting"},
    "app.report": RECORDS | {"app.ledger", "app.outbox", "app.reporting"},
    "app.reporting": RECORDS | {"app.ledger", "app.partner", "app.reporting", "app.unconfigured"},
    "config": RECORDS | {"app.env_file", "app.ledger", "app.partner", "app.spelling"},
    "app.periodic": RECORDS | EDGES | {"app.renewal"},
    "app.jobs": RECORDS | USE_CASES | {"app.periodic", "app.purge"},
    "app.runtime": RECORDS
    | EDGES
    | USE_CASES
    | {"app.descriptors", "app.jobs", "app.periodic", "app.purge", "app.queue", "app.reporting", "config"}
    | {"app.dispatch", "app.loaded", "app.progress", "app.timekeeping", "app.under_way"}
    | {"app.broker", "app.conditions", "app.health", "app.notify"},
    "app.trial": RECORDS | EDGES | {"app.deliver", "app.filter", "app.lookup", "app.refusals"},
    "app.timekeeping": {"app.errors", "app.ledger"},
    "app.tracing": EDGES | {"app.deliver", "app.intake", "app.poll"},
    "celery_app": RECORDS
    | {"app.descriptors", "app.loaded", "app.logs", "app.tracing", "config", "tasks", "tasks.options"},
    "tasks": RECORDS
    | READERS
    | {"app.ledger", "app.logs", "app.periodic", "app.runtime", "app.queue", "app.under_way", "celery_app", "tasks"}
    | {"app.descriptors", "app.notify", "app.reload", "app.stand_in", "config"},
    "tasks.options": set[str](),
    "app.watch": set[str](),
    "app.simulator": RECORDS | {"app.simulator", "app.embedded"},
    "app.embedded": RECORDS | {"app.embedded"},
    "app.cli": None,
    "app.__main__": {"app", "app.cli"},
}
"""What each part may import of ours; `None`: anything."""

DRIVERS = {
    "aiohttp", "aioodbc", "aiosmtplib", "bson", "celery", "httpx", "kombu", "pymongo", "pyodbc", "redis", "sqlalchemy",
}  # fmt: skip
DRIVERS_OF = {
    "app.ledger": {"pymongo", "bson"},
    "app.source": {"sqlalchemy", "aioodbc", "pyodbc"},
    "app.partner": {"redis"},
    "app.reporting": {"aiosmtplib"},
}


def _modules() -> list[Path]:
    return [ROOT / "config.py", ROOT / "celery_app.py", *(ROOT / "app").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(name: str) -> str:
    """The part a module belongs to: the longest of `ALLOWED` that its name starts with."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(prefix for prefix in prefixes if prefix in ALLOWED)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if (ROOT / f"{name.replace('.', '/')}.py").exists() else node.module for name in names)


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    allowed = ALLOWED[_part(_name(path))]
    ours = {name for name in _imported(path) if name.split(".")[0] in ("app", "tasks", "config", "celery_app")}
    wrong = sorted(name for name in ours if allowed is not None and _part(name) not in allowed)
    assert not wrong, f"{_name(path)} must not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_a_driver_is_imported_at_its_boundary_only(path: Path) -> None:
    part = _part(_name(path))
    if part in USE_CASES | set(DRIVERS_OF) | RECORDS | {"app.queue"}:
        drivers = {name.split(".")[0] for name in _imported(path)} & DRIVERS
        assert drivers <= DRIVERS_OF.get(part, set())


def test_the_check_can_fail() -> None:
    assert _part("app.ledger.batches") == "app.ledger"
    assert "app.deliver" not in (ALLOWED["app.ledger"] or ())
    assert "pymongo" in {name.split(".")[0] for name in _imported(ROOT / "app" / "ledger" / "client.py")}
