"""All commands in one place: for tests, and for whoever wants them in one program. `python -m app` loads one alone."""

from __future__ import annotations

import typer

from app.cli.archive import archive
from app.cli.commands import COMMANDS, EPILOG, HELP
from app.cli.deliveries import deliveries
from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.feeds import feeds
from app.cli.health import health
from app.cli.jobs import jobs
from app.cli.metrics import metrics
from app.cli.ping import ping
from app.cli.purge import purge
from app.cli.reconcile import certificate, reconcile
from app.cli.replay import acknowledge, cancel, replay
from app.cli.report import report
from app.cli.status import status
from app.cli.watch import watch

main = typer.Typer(
    name="rowrelay",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
main.command()(acknowledge)
main.command()(cancel)
main.command()(certificate)
main.command()(demo)
main.command()(doctor)
main.command()(health)
main.command()(jobs)
main.command()(metrics)
main.command()(ping)
main.command()(purge)
main.command()(reconcile)
main.command()(replay)
main.command()(report)
main.command()(status)
main.command()(watch)
main.add_typer(archive, name="archive", help=COMMANDS["archive"][1])
main.add_typer(deliveries, name="deliveries", help=COMMANDS["deliveries"][1])
main.add_typer(feeds, name="feeds", help=COMMANDS["feeds"][1])
