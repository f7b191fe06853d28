"""All commands in one place: for tests, and for whoever wants them in one program. `python -m app`
loads one alone.
"""

from __future__ import annotations

import typer

from app.cli.commands import COMMANDS, EPILOG, HELP, add_command

main = typer.Typer(
    name="rowrelay",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for name in COMMANDS:
    add_command(main, name)
