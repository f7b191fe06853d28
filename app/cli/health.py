"""`health`: whether worker, beat and feeds make progress, for a person, Docker's HEALTHCHECK and
Kubernetes' probes.
"""

from __future__ import annotations

import shlex
import socket
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import config
from app.cli.loading import load_partly
from app.cli.servers import with_ledger
from app.cli.terminal import FOUND_WRONG, AsJson, console, print_json
from app.configuration.configured import Own
from app.core.clock import utc_now
from app.core.errors import LedgerUnavailable
from app.ledger import Ledger
from app.ledger.heartbeats import Role
from app.monitoring.health import Bounds, Health, feeds, jobs, processes

UNKNOWN_TIMEOUT = timedelta(minutes=10)
"""What a feed may let its partner take, for all that is known where feeds.toml is wrong about it.
"""


class Part(StrEnum):
    """What is asked about."""

    WORKER = "worker"
    BEAT = "beat"
    FEEDS = "feeds"


def health(
    role: Annotated[
        Part | None,
        typer.Option(
            help="Only this machine's worker or beat, or only the feeds; else all there are."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Only the one of this name, such as celery@host.")
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Also fail for what waits for a server.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether worker, beat and feeds make progress. Exit code 1 where one does not, within
    PROGRESS_BOUND.
    """
    read = load_partly()
    found, untold = with_ledger(read.config, lambda ledger: _ask(read, ledger, role))
    found = [health for health in found if name in (None, health.name)]
    if untold is None:
        found = _unpolled(found) if role is None else found
        found += _absent(found, role, name)
    if read.wrong and role in (None, Part.FEEDS):
        found.append(Health("configuration", "feeds.toml", waits_for=tuple(map(str, read.wrong))))
    well = all(health.ready if ready else health.live for health in found)
    if untold is not None:
        # Without the ledger nobody can tell, and nobody can work: ending a process would mend
        # nothing.
        well = role in (Part.WORKER, Part.BEAT) and not ready
    if as_json:
        checks = [
            {"role": h.role, "name": h.name, "live": h.live, "ready": h.ready, "found": _said(h)}
            for h in found
        ]
        print_json({"ok": well, "checks": checks, "untold": untold})
    else:
        _print(found, untold)
    if not well:
        raise typer.Exit(FOUND_WRONG)


async def _ask(
    read: config.Partly, ledger: Ledger, role: Part | None
) -> tuple[list[Health], str | None]:
    """What the ledger tells; or nothing, and why it tells nothing."""
    bounds, now, own = (
        Bounds.of(read.config.feeds.values(), read.config.settings),
        utc_now(),
        Own.of(read.config),
    )
    if read.wrong:
        bounds = replace(bounds, single=max(bounds.single, UNKNOWN_TIMEOUT))
    try:
        if role is Part.FEEDS:
            return await _feeds(read, ledger, bounds, now), None
        if role is not None:
            return await processes(
                ledger, bounds, now, Role(role.value), socket.gethostname(), own=own
            ), None
        found = [
            *await processes(ledger, bounds, now, own=own),
            *await _feeds(read, ledger, bounds, now),
        ]
        return [*found, *await jobs(ledger)], None
    except LedgerUnavailable as error:
        return [], str(error)


async def _feeds(
    read: config.Partly, ledger: Ledger, bounds: Bounds, now: datetime
) -> list[Health]:
    """The feeds that are right; which others feeds.toml names, nobody knows where it cannot be
    read.
    """
    if read.named is None:
        return []
    return await feeds(ledger, list(read.config.feeds.values()), bounds, now, read.named)


def _absent(found: list[Health], role: Part | None, name: str | None) -> list[Health]:
    """A problem for each role of which nothing was heard. A process that stops says goodbye, so
    none runs.
    """
    if name is not None:
        wanted = role.value if role else "process"
        return [] if found else [Health(wanted, name, ("was not heard of within the last hour",))]
    here = f"on {socket.gethostname()}" if role else "anywhere"
    return [
        Health(part, here, (f"none runs, start one with: {_start(part)}",))
        for part in _missing(found, role)
    ]


def _missing(found: list[Health], role: Part | None) -> list[str]:
    """The roles that are asked for and that no process has."""
    roles = [Part.WORKER, Part.BEAT] if role is None else [role] if role is not Part.FEEDS else []
    return [part.value for part in roles if part.value not in {health.role for health in found}]


def _start(role: str) -> str:
    """The command that starts a worker or beat with this Python, from the directory that we are in."""
    celery = Path(sys.executable).with_name("celery")
    shown = celery.relative_to(Path.cwd()) if celery.is_relative_to(Path.cwd()) else celery
    return shlex.join([str(shown), "-A", "celery_app", role])


def _unpolled(found: list[Health]) -> list[Health]:
    """Feeds that are not polled for want of a worker or beat: that is why, whatever their last poll
    came to.
    """
    if not (missing := _missing(found, None)):
        return found
    why = f"is not polled: no {' and no '.join(missing)} runs"
    return [
        replace(h, problems=(why,), waits_for=()) if h.role == "feed" and h.problems else h
        for h in found
    ]


def _said(health: Health) -> str:
    return "; ".join([*health.problems, *health.waits_for])


def _print(found: list[Health], untold: str | None) -> None:
    if untold is not None:
        console.print(f"not told: {untold}", soft_wrap=True)
    for health in found:
        verdict = "ok" if health.ready else "waits" if health.live else "NO PROGRESS"
        said = f": {_said(health)}" if _said(health) else ""
        console.print(f"{verdict}: {health.role} {health.name}{said}", soft_wrap=True)
