"""`doctor`: connects to everything, and says version, latency and what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer

import config
from app.cli import doctor_broker
from app.cli.checks import Check, checked, found
from app.cli.doctor_here import check_here
from app.cli.doctor_partner import check_partners, check_ways
from app.cli.output import (
    FOUND_WRONG,
    AsJson,
    console,
    load_config,
    open_source,
    opened_ledger,
    print_json,
    print_table,
    run,
)
from app.cli.preview import shown_request
from app.core.clock import server_clock, utc_now
from app.core.cursors import Cursor
from app.core.errors import Problem, RowrelayError
from app.feeds.feed import Feed
from app.ledger import Ledger
from app.ledger.examine import Role
from app.ledger.heartbeats import Heartbeat
from app.ledger.unconfigured import unconfigured
from app.monitoring.health import wrong_clocks
from app.operations.trial import newest_row, of_source
from app.partner.problems import column_problems
from app.partner.request import prepare
from app.runtime.clients import open_ledger
from app.source.columns import columns_finding, sent_names
from app.source.engine import check_reachable
from app.source.findings import Finding, Level
from app.source.reader import Source

WAITING_SHOWN = 10_000
"""Rows waiting are counted up to this many, so that the question stays cheap."""


AskPartners = Annotated[
    bool, typer.Option("--ask-partners", help="Also send each partner a HEAD request, with the feed's authentication.")
]


def doctor(as_json: AsJson = False, ask_partners: AskPartners = False) -> None:
    """Connect to Redis, MongoDB, the source and every partner; examine every feed's table. Exit code 1 if any fails.

    Also what is needed on this machine: directories, open files, clocks, mail and webhook where they are configured.
    Nothing is delivered, sent or posted.
    """
    checks = run(_check_all(load_config(), ask_partners=ask_partners))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": checks})
    else:
        rows = [[_shown(c.level), c.name, c.detail, _took(c.latency_ms)] for c in checks]
        if not print_table("Doctor", ["", "check", "found", "took"], rows, spare=["took"]):
            for check in checks:
                if check.level in {Level.WARNING, Level.FAILED}:
                    console.print(f"{_shown(check.level)}: {check.name}: {check.detail}", soft_wrap=True)
    if not well:
        raise typer.Exit(FOUND_WRONG)


def _shown(level: Level) -> str:
    return level.value.upper() if level is Level.FAILED else level.value


def _took(latency_ms: float | None) -> str:
    return "" if latency_ms is None else f"{latency_ms:.0f} ms"


async def _check_others(loaded: config.Config) -> list[Check]:
    """Feeds that owe something and that nobody sends. A ledger that does not answer is told by its own check."""
    try:
        async with opened_ledger(loaded) as ledger:
            others = await unconfigured(ledger, loaded.feeds)
    except RowrelayError:
        return []
    return [found(f"feed {other.feed}", Level.WARNING, other.said(utc_now())) for other in others]


async def _check_all(loaded: config.Config, *, ask_partners: bool = False) -> list[Check]:
    """All servers at once, so that several that do not answer cost no more time than one."""
    settings = loaded.settings
    checks = await asyncio.gather(
        _check_broker(settings),
        _check_ledger(settings),
        _check_source(loaded),
        _check_others(loaded),
        check_here(loaded),
        check_ways(settings),
        check_partners(loaded, ask=ask_partners),
    )
    return [check for of_each in checks for check in of_each]


async def _check_source(loaded: config.Config) -> list[Check]:
    """The source, then each feed; feeds only where the source answers, so that one cause is told once."""
    settings, name = loaded.settings, "source (SOURCE_URL)"
    opened: list[Source] = []

    async def connect() -> str:
        source = open_source(loaded)
        opened.append(source)
        await check_reachable(settings.source_url.get_secret_value(), settings.connect_timeout)
        return await source.version()

    try:
        reached = await checked(name, connect)
        if not reached.ok:
            return [reached]
        cursors = await _cursors(loaded)
        checks = [reached]
        for feed in loaded.feeds.values():
            checks += await _check_feed(opened[0], feed, cursors.get(feed.name))
        return checks
    finally:
        for source in opened:
            await source.close()


async def _cursors(loaded: config.Config) -> dict[str, Cursor]:
    """Feed → cursor; none where the ledger does not answer, which has a check of its own."""
    try:
        async with opened_ledger(loaded) as ledger:
            return {name: await ledger.cursors.get(name) for name in loaded.feeds}
    except RowrelayError:
        return {}


async def _check_feed(source: Source, feed: Feed, cursor: Cursor | None) -> list[Check]:
    """That the feed's table can be read, what the catalogue says about it, and how many rows wait."""
    findings: list[Finding] = []

    async def read() -> str:
        columns = await source.check(feed)
        findings.extend(await source.examine(feed))
        if feed.columns is None:
            if cursor is not None:
                findings.append(columns_finding(feed, cursor, columns))
            sent = sent_names(feed, cursor or Cursor(feed.name), columns)
            findings.extend(map(_of_columns, column_problems(feed, sent)))
        findings.extend(await _newest_row(source, feed, cursor))
        return f"{feed.table}: {len(columns)} columns; one row read, or none there"

    name = f"feed {feed.name}"
    first = await checked(name, read)
    if not first.ok:
        return [replace(first, detail=first.detail.removeprefix(f"{name}: "))]
    details = [found(f"{name}: {finding.subject}", finding.level, finding.detail) for finding in findings]
    return [first, *details, await checked(f"{name}: waiting", lambda: _waiting(source, feed, cursor))]


def _of_columns(problem: Problem) -> Finding:
    """What the configuration cannot tell where a feed does not list its columns."""
    return Finding(problem.field.split(".", 2)[2], Level.FAILED, f"no column {problem.found}; {problem.allowed}")


async def _newest_row(source: Source, feed: Feed, cursor: Cursor | None) -> list[Finding]:
    """Whether a request can be made of the newest row that the feed would send, with each header whose value comes from
    it; nothing where there is none."""
    row = await newest_row(feed, source, cursor.columns if cursor else ())
    if row is None:
        return []
    subject, prepared = of_source(feed, row, utc_now()), prepare(feed)
    shown = shown_request(prepared, subject)
    name, who = "newest row", f"delivery {subject.delivery.id}"
    if shown["sent"]:
        headers = f", with {', '.join(prepared.row_headers)}" if prepared.row_headers else ""
        return [Finding(name, Level.OK, f"{who}: a request of {len(str(shown['body']).encode())} bytes{headers}")]
    if subject.unsent:
        return [Finding(name, Level.OK, f"{who} would not be sent: {shown['reason']}")]
    return [Finding(name, Level.FAILED, f"{who} would be a dead letter: {shown['reason']}")]


async def _waiting(source: Source, feed: Feed, cursor: Cursor | None) -> str:
    """Rows beyond the cursor. Where the ledger does not answer, as if the feed had not begun."""
    since = "the cursor" if cursor else "the feed's start, as the ledger does not answer"
    count = await source.waiting(feed, cursor or Cursor(feed.name), WAITING_SHOWN)
    return f"{count}{' or more' if count == WAITING_SHOWN else ''} rows beyond {since}"


async def _check_broker(settings: config.Settings) -> list[Check]:
    """Redis itself, then each of the other clients that will use it: those only where it answers at all."""
    first = await checked(doctor_broker.NAME, lambda: doctor_broker.version(settings))
    if not first.ok:
        return [first]

    def asking(client: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        return lambda: doctor_broker.ask(client, settings)

    from tasks.probes import probes  # noqa: PLC0415 - Celery takes a while to load, and checks of other servers need none

    others = [await checked(name, asking(client)) for name, client in probes(settings).items()]
    doubts = [*doctor_broker.doubts(settings), *await doctor_broker.misused(settings)]
    return [first, *others, *(found(name, level, detail) for name, level, detail in doubts)]


async def _check_ledger(settings: config.Settings) -> list[Check]:
    """Who answers, whether it takes writes, and its indexes: each asked only where the one before is well.

    The clocks of the processes only where it is one that answers us.
    """
    name = "ledger (MONGO_URL)"
    ledger: list[Ledger] = []
    roles: list[Role] = []

    async def who() -> str:
        ledger.append(open_ledger(settings))
        roles.append(await ledger[0].examination(settings.connect_timeout).role())
        return roles[0].about

    async def write() -> str:
        await ledger[0].examination(settings.connect_timeout).write()
        return "a document of its own written and deleted, acknowledged by a majority"

    async def index() -> str:
        await ledger[0].examination(settings.connect_timeout).partial_index()
        return "a partial index made"

    checks: list[Check] = []
    clocks: list[tuple[Heartbeat, str]] = []
    try:
        for subject, ask in ((name, who), ("ledger: writing", write), ("ledger: indexes", index)):
            checks.append(await checked(subject, ask))
            if not checks[-1].ok:
                break
        with suppress(RowrelayError):
            clocks = await wrong_clocks(ledger[0]) if roles else []
    finally:
        for opened in ledger:
            await opened.close()
    doubts = [(f"ledger: {subject}", detail) for role in roles for subject, detail in role.warnings.items()]
    doubts += [(f"{mark.role.value} {mark.name}: clock", said) for mark, said in clocks]
    checks += [check for role in roles for check in _clock(role)]
    return [*checks, *(found(subject, Level.WARNING, detail) for subject, detail in doubts)]


def _clock(role: Role) -> list[Check]:
    """That this machine's clock agrees with the ledger server's, where nothing else is said of it."""
    ahead = server_clock.machine_ahead
    if ahead is None or "clock" in role.warnings:
        return []
    return [found("ledger: clock", Level.OK, f"this machine's is within {abs(ahead):.1f} s of the server's")]
