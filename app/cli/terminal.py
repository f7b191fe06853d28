"""How commands speak: text that acts on no terminal, JSON for programs, one line for an error."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.text import Text

from app.core.shown import plain_json, plain_lines

FOUND_WRONG, WRONG_USAGE = 1, 2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class PlainConsole(Console):
    """Takes every text for data: no markup, no emoji codes, and nothing in it that acts on the
    terminal.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
        self._width = width  # else Rich keeps the COLUMNS of the moment of the import; asked for, it reads them anew

    def render_str(self, text: str, **options: Any) -> Text:
        """As Rich calls it for each text that it prints."""
        return super().render_str(plain_lines(text), **options)


console = PlainConsole()


def fail(message: str, code: int = FOUND_WRONG) -> typing.NoReturn:
    """Say what is wrong on stderr, and exit."""
    warn(message)
    raise typer.Exit(code)


def warn(message: str) -> None:
    """Say something on stderr that ends nothing."""
    sys.stderr.write(f"rowrelay: {plain_lines(message)}\n")


def fail_feeds(failed: Mapping[str, str]) -> typing.NoReturn:
    """Say what went wrong, a line for each feed that is named, and exit."""
    lines = [
        text if text.startswith(f"feed {name}:") else f"feed {name}: {text}"
        for name, text in failed.items()
    ]
    fail("\nrowrelay: ".join(lines), FOUND_WRONG)


def print_json(value: object) -> None:
    """Print a value as indented JSON; moments in ISO 8601."""
    document = orjson.dumps(
        value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    ).decode()
    sys.stdout.write(plain_json(document) + "\n")
