"""All commands in one place."""

from __future__ import annotations

import typer

from app.cli.deliveries import deliveries
from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.feeds import feeds
from app.cli.ping import ping
from app.cli.replay import cancel, replay
from app.cli.status import status

main = typer.Typer(
    name="rowrelay",
    help="Delivers every new row of a SQL Server table to a partner's HTTP API, and can prove it.",
    epilog="Exit codes: 0 all is well; 1 something is wrong, or could not be done; 2 wrong usage or configuration.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
main.command()(cancel)
main.command()(demo)
main.command()(doctor)
main.command()(ping)
main.command()(replay)
main.command()(status)
main.add_typer(deliveries, name="deliveries", help="Look at single deliveries.")
main.add_typer(feeds, name="feeds", help="List, pause, resume, explain and rewind feeds.")
