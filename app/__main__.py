"""`rowrelay <command>`, or `python -m app <command>`.

A command is loaded alone, and none for `--help` and `--version`: what asks no server loads none of
their drivers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app import VERSION
from app.cli.commands import COMMANDS, EPILOG, HELP, add_command

NAME = "rowrelay"
CONFIG = "ROWRELAY_CONFIG"
"""The directory of `.env` and `feeds.toml`, for every process; `--config` sets it for a command."""


def run() -> None:
    """The entry point `rowrelay`."""
    arguments = _take_config(sys.argv[1:])
    if arguments == ["--version"]:
        sys.stdout.write(f"{NAME} {VERSION}\n")
        return
    called = Path(sys.argv[0]).name == NAME
    program(_named(arguments), completes=called)(
        args=arguments, prog_name=NAME if called else f"{Path(sys.executable).name} -m app"
    )


def program(name: str | None, *, completes: bool = False) -> Any:
    """What runs the command of that name; for another name, what tells the names that there are.

    `completes`: has the options that install completion. Not for `python -m app`: a shell takes
    that for `python`.
    """
    import typer  # noqa: PLC0415 - takes longer than all that `--version` does

    made = typer.Typer(
        name=NAME, help=HELP, epilog=EPILOG, no_args_is_help=True, pretty_exceptions_enable=False,
        add_completion=completes,
    )  # fmt: skip
    made.callback(help=HELP)(_options())
    if name in COMMANDS:
        add_command(made, name)
        return made
    for one, (_, said) in COMMANDS.items():
        made.command(one, help=said)(_nothing)
    return made


def _options() -> Callable[..., None]:
    import typer  # noqa: PLC0415 - as above

    def options(
        config: str = typer.Option(
            "", metavar="DIR", help="Where .env and feeds.toml are. Stands before the command."
        ),
        version: bool = typer.Option(False, "--version", help="Say the version, and end."),
    ) -> None:
        """Both are taken before this is asked."""

    return options


def _nothing() -> None:
    """Stands for a command in the list of all."""


def _take_config(arguments: Sequence[str]) -> list[str]:
    """The arguments without a leading `--config DIR`, which counts for this process and those that
    it starts.
    """
    first = arguments[0] if arguments else ""
    if first.partition("=")[0] != "--config":
        return list(arguments)
    given = first.partition("=")[2] if "=" in first else "".join(arguments[1:2])
    if not Path(given or "?").is_dir():
        sys.stderr.write(
            f"{NAME}: --config: found {given!r}; the directory with .env and feeds.toml\n"
        )
        raise SystemExit(2)
    os.environ[CONFIG] = str(Path(given).absolute())
    return list(arguments[1 if "=" in first else 2 :])


def _named(arguments: Sequence[str]) -> str | None:
    """The command that is meant: the first word, also of a line that a shell wants completed."""
    if f"_{NAME.upper()}_COMPLETE" in os.environ:
        line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
        arguments = line.split()[1:]
        if len(arguments) == 1 and not line.endswith((" ", "\n")):
            return None
    return next((argument for argument in arguments if not argument.startswith("-")), None)


if __name__ == "__main__":
    run()
