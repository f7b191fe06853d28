"""`python -m app <command>`."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

LIGHT = ("health", "watch")
"""Commands that run again and again, or beside each worker: loaded without the others, in half the time."""


def program(name: str | None) -> typer.Typer:
    """What runs the command of that name."""
    if name not in LIGHT:
        loaded: typer.Typer = import_module("app.cli.main").main
        return loaded
    alone = typer.Typer(name="rowrelay", pretty_exceptions_enable=False)
    alone.callback()(lambda: None)  # with it the name of the only command is asked for, as among many
    alone.command()(getattr(import_module(f"app.cli.{name}"), name))
    return alone


if __name__ == "__main__":
    program(sys.argv[1] if len(sys.argv) > 1 else None)()
