"""`rowrelay` starts without what a command does not need, runs from anywhere, and completes no
shell's `python`.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from app import VERSION
from app.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
DRIVERS = ("aiohttp", "celery", "httpx", "kombu", "pymongo", "redis", "sqlalchemy")
_CALL = """
import json, sys
sys.argv = ["/usr/bin/rowrelay", *sys.argv[1:]]
from app.__main__ import run
try:
    run()
except SystemExit as ended:
    code = ended.code
else:
    code = 0
sys.stderr.write(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]))
"""


def _run(
    *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> tuple[int, str, list[str], str]:
    """Exit code, stdout, modules that were loaded, and stderr before them, of the entry point."""
    done = subprocess.run(
        [sys.executable, "-c", _CALL, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(environment or {})},
        timeout=120,
        check=False,
    )
    said, bracket, rest = done.stderr.rpartition("[")[0].rpartition("[")
    code, modules = orjson.loads(bracket + rest + "[" + done.stderr.rpartition("[")[2])
    return code or 0, done.stdout, modules, said


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["no-such-command"], ["status", "--help"]]
)
def test_what_asks_no_server_loads_no_driver(arguments: list[str]) -> None:
    code, _, modules, _ = _run(*arguments)
    assert code == (2 if arguments == ["no-such-command"] else 0)
    assert set(DRIVERS) & set(modules) == set()


def test_a_command_that_asks_the_ledger_alone_loads_no_other_servers_driver() -> None:
    """Its configuration is checked, and nobody answers."""
    environment = {
        "FEEDS_FILE": str(ROOT / "feeds.example.toml"),
        "PARTNER_TOKEN": "t0ken",
        "MONGO_URL": "mongodb://127.0.0.1:1/none",
        "CONNECT_TIMEOUT": "1s",
    }
    code, _, modules, said = _run("jobs", environment=environment)
    assert code == 1, said
    assert set(DRIVERS) & set(modules) == {"pymongo"}


def test_the_version_is_said_and_the_help_names_every_command() -> None:
    assert _run("--version")[1] == f"rowrelay {VERSION}\n"
    said = _run("--help")[1]
    assert all(name in said for name in COMMANDS)


def test_the_names_and_their_help_are_those_of_the_commands() -> None:
    from app.cli.main import main

    loaded = {}
    for command in main.registered_commands:
        callback = command.callback
        assert callback is not None
        text = (inspect.getdoc(callback) or "").partition("\n\n")[0].replace("\n", " ")
        loaded[command.name or callback.__name__] = (callback.__module__.rpartition(".")[2], text)
    groups = {group.name for group in main.registered_groups}
    assert loaded == {name: found for name, found in COMMANDS.items() if name not in groups}
    assert set(loaded) | groups == set(COMMANDS)


def test_it_runs_from_anywhere_with_the_directory_of_its_configuration(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    feeds = (ROOT / "feeds.example.toml").read_text(encoding="utf-8")
    (place / "feeds.toml").write_text(feeds, encoding="utf-8")
    (place / "secret").write_text("t0ken", encoding="utf-8")
    (place / ".env").write_text("PARTNER_TOKEN_FILE=secret\nREPORTS_DIR=out\n", encoding="utf-8")
    show = (
        "import config; loaded = config.load(); print(*loaded.feeds, loaded.settings.reports_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", show],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ROWRELAY_CONFIG": str(place)},
        timeout=60,
        check=True,
    )
    assert done.stdout == f"orders {place / 'out'}\n"
    code, _, _, said = _run("--config", str(tmp_path / "none"), "status", cwd=elsewhere)
    assert (code, said) == (
        2,
        f"rowrelay: --config: found '{tmp_path}/none'; the directory with .env and feeds.toml\n",
    )
    assert _run("--config", str(place), "--version", cwd=elsewhere)[1] == f"rowrelay {VERSION}\n"
    assert _run(f"--config={place}", "status", "--help", cwd=elsewhere)[0] == 0


def test_a_shell_completes_commands_and_their_options() -> None:
    asked = {"_ROWRELAY_COMPLETE": "complete_bash", "COMP_WORDS": "rowrelay st", "COMP_CWORD": "1"}
    assert _run(environment=asked)[1].split() == ["status"]
    asked |= {"COMP_WORDS": "rowrelay status --rec", "COMP_CWORD": "2"}
    assert "--recount" in _run(environment=asked)[1].split()


def test_no_completion_is_offered_for_python_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    assert "completion" not in done.stdout
    assert "completion" in _run("--help")[1]
