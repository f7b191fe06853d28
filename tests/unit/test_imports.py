"""Imports run one way, so that each part can be read, tested and replaced without those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RANKS = (
    ("app",),
    ("app.core",),
    ("app.feeds",),
    ("app.settings",),
    ("config",),
    ("app.redis",),
    ("app.source", "app.ledger", "app.partner", "app.broker"),
    ("app.configuration",),
    ("app.intake", "app.delivery", "app.sending"),
    ("app.reconcile", "app.retention", "app.reports"),
    ("app.jobs",),
    ("app.monitoring",),
    ("app.notifications",),
    ("app.reads",),
    ("app.operations",),
    ("app.runtime",),
    ("app.testbed", "app.console", "tasks"),
    ("app.cli",),
    ("app.__main__", "celery_app"),
)
"""From the bottom up. A part imports of ours what lies in ranks below its own, and nothing of its
neighbours.
"""

DRIVERS = {
    "alembic": {"app.console"},
    "fastapi": {"app.console"},
    "starlette": {"app.console"},
    "uvicorn": {"app.console"},
    "aioodbc": {"app.source"},
    "aiosmtplib": {"app.sending"},
    "bson": {"app.ledger"},
    "celery": {"tasks"},
    "httpx": {"app.testbed"},
    "kombu": {"tasks"},
    "pymongo": {"app.ledger", "app.testbed"},
    "pyodbc": {"app.source"},
    "redis": {"app.redis", "app.broker", "app.partner", "app.testbed", "tasks"},
    "sqlalchemy": {"app.source", "app.console"},
    "typer": {"app.cli", "app.__main__", "app.testbed"},
}
"""Library → the parts that may import it. The testbed's generator of rows is a program of its own.
"""

PUBLISHING = {"tasks.application", "tasks.ping", "tasks.probes"}
"""What a command may import of `tasks`: to publish, and to ask the workers. None starts anything
when imported.
"""

OPENERS = {
    "at": {"app.runtime", "app.ledger", "app.testbed"},
    "open_engine": {"app.runtime", "app.source", "app.console"},
    "Broker": {"app.runtime", "app.broker"},
    "ThrottleStore": {"app.runtime", "app.partner"},
    "PartnerClient": {"app.runtime", "app.partner"},
}
"""What opens a client → the parts that may call it: clients are opened by `app/runtime/clients.py`.
"""

RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}


def _modules() -> list[Path]:
    return [
        ROOT / "config.py",
        ROOT / "celery_app.py",
        *(ROOT / "app").rglob("*.py"),
        *(ROOT / "tasks").rglob("*.py"),
    ]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(name: str) -> str:
    """The part a module belongs to: the longest of `RANKS` that its name starts with."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(prefix for prefix in prefixes if prefix in RANK)


@cache
def _nodes(path: Path) -> Sequence[ast.AST]:
    return [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def _imported(path: Path) -> Iterator[str]:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _of_parts_above(path: Path) -> list[str]:
    part = _part(_name(path))
    ours = [
        name
        for name in _imported(path)
        if name.split(".")[0] in ("app", "tasks", "config", "celery_app")
    ]
    return sorted(name for name in ours if _part(name) != part and RANK[_part(name)] >= RANK[part])


def test_every_file_lies_in_a_package_that_has_a_rank() -> None:
    loose = [
        _name(path) for path in _modules() if _part(_name(path)) == "app" and _name(path) != "app"
    ]
    assert not loose, "a package of `app/` has no rank, or a file lies outside of the packages"


def test_a_module_imports_only_what_lies_below_it() -> None:
    found = {_name(path): _of_parts_above(path) for path in _modules()}
    assert {name: above for name, above in found.items() if above} == {}


def test_a_library_is_imported_in_its_part_only() -> None:
    found = {
        (_name(path), library)
        for path in _modules()
        for library in {name.split(".")[0] for name in _imported(path)} & set(DRIVERS)
        if _part(_name(path)) not in DRIVERS[library]
    }
    assert found == set()


def _called(path: Path) -> Iterator[str]:
    """The names of what it calls; of a method, only where it is one of a class by its name."""
    for node in _nodes(path):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if owner[
                0
            ].isupper():
                yield name


def test_a_command_imports_of_the_tasks_what_publishes() -> None:
    known = {_name(path) for path in _modules()}
    imported = {
        name
        for path in _modules()
        if _part(_name(path)) == "app.cli"
        for name in _ours(path, known)
    }
    assert {name for name in imported if name.startswith("tasks.")} == PUBLISHING


def test_a_configuration_is_loaded_with_everything_checked() -> None:
    calls = {
        _name(path)
        for path in _modules()
        if {"config.load", "config.load_partly"} & {*_attributes(path)}
    }
    assert calls == {"app.configuration.checks"}


def _attributes(path: Path) -> Iterator[str]:
    for node in _nodes(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def test_a_client_is_opened_where_all_are() -> None:
    opened = {
        (_name(path), name) for path in _modules() for name in _called(path) if name in OPENERS
    }
    wrong = {(module, name) for module, name in opened if _part(module) not in OPENERS[name]}
    assert not wrong, "open it with `app/runtime/clients.py`, or be given it"


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {_name(path) for path in _modules()}
    graph = {_name(path): _ours(path, known) for path in _modules()}
    done: set[str] = set()
    for name in graph:
        _walk(name, graph, (), done)


def _ours(path: Path, known: set[str]) -> set[str]:
    """The modules that it imports of ours; of `from package import module`, the module. `known`: all
    of ours.
    """
    found = {name if name in known else name.rpartition(".")[0] for name in _imported(path)}
    return (found & known) - {_name(path)}


def _walk(name: str, graph: dict[str, set[str]], way: tuple[str, ...], done: set[str]) -> None:
    assert name not in way, " → ".join([*way[way.index(name) :], name])
    if name not in done:
        for imported in sorted(graph[name]):
            _walk(imported, graph, (*way, name), done)
        done.add(name)


def test_the_check_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _part("app.ledger.batches") == "app.ledger"
    assert "pymongo" in {
        name.split(".")[0] for name in _imported(ROOT / "app" / "ledger" / "client.py")
    }
    opening = ROOT / "app" / "runtime" / "clients.py"
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "app" / "core").mkdir(parents=True)
    wrong = tmp_path / "app" / "core" / "clock.py"
    wrong.write_text("from app.ledger import Ledger\n", encoding="utf-8")
    assert _of_parts_above(wrong) == ["app.ledger.Ledger"]
    assert {"at", "open_engine"} <= {*_called(opening)}
