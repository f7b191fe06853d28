"""`doctor`: connects to everything, and says version, latency and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from app.cli.loading import load_config
from app.cli.servers import run
from app.cli.tables import print_table
from app.cli.terminal import FOUND_WRONG, AsJson, console, print_json
from app.reads.doctor.check import Check, found
from app.reads.doctor.examine import Examined, examine
from app.runtime import descriptors
from app.runtime.clients import open_partners
from app.runtime.reader import open_reader
from app.runtime.senders import mails
from app.source.findings import Level
from config import Config, Settings

AskPartners = Annotated[
    bool,
    typer.Option(
        "--ask-partners",
        help="Also send each partner a HEAD request, with the feed's authentication.",
    ),
]


def doctor(as_json: AsJson = False, ask_partners: AskPartners = False) -> None:
    """Connect to Redis, MongoDB, the source and every partner; examine every feed's table. Exit
    code 1 if any fails.

    Also what is needed on this machine: directories, open files, clocks, mail and webhook where
    they are configured. Nothing is delivered, sent or posted.
    """
    checks = run(_examined(load_config(), ask_partners=ask_partners))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": checks})
    else:
        rows = [[_shown(c.level), c.name, c.detail, _took(c.latency_ms)] for c in checks]
        if not print_table("Doctor", ["", "check", "found", "took"], rows, spare=["took"]):
            for check in checks:
                if check.level in {Level.WARNING, Level.FAILED}:
                    console.print(
                        f"{_shown(check.level)}: {check.name}: {check.detail}", soft_wrap=True
                    )
    if not well:
        raise typer.Exit(FOUND_WRONG)


def _shown(level: Level) -> str:
    return level.value.upper() if level is Level.FAILED else level.value


def _took(latency_ms: float | None) -> str:
    return "" if latency_ms is None else f"{latency_ms:.0f} ms"


async def _examined(loaded: Config, *, ask_partners: bool) -> list[Check]:
    settings = loaded.settings
    to = ",".join(filter(None, (settings.report_mail_to, settings.notify_mail_to)))
    async with open_reader(loaded) as reader:
        examined = Examined(
            servers=reader,
            queue_clients=lambda: _probes(settings),
            mails=mails(settings, to),
            of_machine=[_check_descriptors(loaded)],
            open_partner=(lambda feed: open_partners([feed])) if ask_partners else None,
        )
        return await examine(loaded, examined)


def _probes(settings: Settings) -> Mapping[str, Callable[[], str]]:
    from tasks.probes import probes  # noqa: PLC0415 - Celery takes a while to load, and checks of other servers need none

    return probes(settings)


def _check_descriptors(loaded: Config) -> Check:
    """Whether a worker started here, as this command was, could have as many files open as it
    needs.
    """
    need = descriptors.need_of(loaded.feeds.values(), loaded.settings.worker_concurrency)
    limit = descriptors.limit()
    if said := descriptors.shortage(need, limit.hard):
        return found("file descriptors", Level.WARNING, f"a worker started here: {said}")
    told = f"a worker needs {need}. Started here it may have {limit.soft}"
    if limit.soft < need.total:
        told += f", and raises that by itself: the hard limit is {limit.hard}"
    return found("file descriptors", Level.OK, told)
