"""A command of `python -m app`, run in this process: a new Python for each would take a second of the
processor. What a process of its own shows (signals, exit, what it loads) is tested by such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from typer.testing import CliRunner

from app.cli.main import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def command(environment: Mapping[str, str], *arguments: str) -> Ran:
    """Run a command without a terminal, at 200 columns unless `environment` says. A failure that it
    does not put into words itself fails the test.
    """
    ran = CliRunner().invoke(main, list(arguments), env={"COLUMNS": "200", **environment})
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert "Traceback" not in ran.stdout + ran.stderr
    return Ran(ran.exit_code, ran.stdout, ran.stderr)
