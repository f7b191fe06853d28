"""`doctor`: connects to everything, and says version, latency and what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import typer
from redis.exceptions import RedisError

import config
from app import descriptors
from app.cli import doctor_broker
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
from app.clock import utc_now
from app.errors import ConfigError, Problem, RowrelayError
from app.feed import Feed
from app.health import wrong_clocks
from app.ledger import Ledger
from app.ledger.examine import Role
from app.ledger.progress import Mark
from app.models import Cursor
from app.partner.problems import column_problems
from app.partner.request import prepare
from app.partner.transport import tls_context
from app.source.columns import columns_finding, sent_names
from app.source.engine import check_reachable
from app.source.findings import Finding, Level
from app.source.reader import Source
from app.trial import newest_row, of_source
from app.unconfigured import unconfigured

WAITING_SHOWN = 10_000
"""Rows waiting are counted up to this many, so that the question stays cheap."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. A warning does not make `doctor` fail."""

    name: str
    ok: bool
    level: Level
    detail: str
    latency_ms: float | None
    """`None` where the answer came with another check's."""


def doctor(as_json: AsJson = False) -> None:
    """Connect to Redis, MongoDB, the source and every partner; examine every feed's table. Exit code 1 if any fails."""
    checks = run(_check_all(load_config()))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": checks})
    else:
        rows = [[_shown(c.level), c.name, _took(c.latency_ms), c.detail] for c in checks]
        if not print_table("Doctor", ["", "check", "took", "found"], rows):
            for check in checks:
                if check.level in {Level.WARNING, Level.FAILED}:
                    console.print(f"{_shown(check.level)}: {check.name}: {check.detail}", soft_wrap=True)
    if not well:
        raise typer.Exit(FOUND_WRONG)


def _shown(level: Level) -> str:
    return level.value.upper() if level is Level.FAILED else level.value


def _took(latency_ms: float | None) -> str:
    return "" if latency_ms is None else f"{latency_ms:.0f} ms"


def _check_descriptors(loaded: config.Config) -> Check:
    """Whether a worker started here, as this command was, could have as many files open as it needs."""
    need = descriptors.need_of(loaded.feeds.values(), loaded.settings.worker_concurrency)
    found = descriptors.limit()
    if said := descriptors.shortage(need, found.hard):
        return Check("file descriptors", True, Level.WARNING, f"a worker started here: {said}", None)
    told = f"a worker needs {need}. Started here it may have {found.soft}"
    if found.soft < need.total:
        told += f", and raises that by itself: the hard limit is {found.hard}"
    return Check("file descriptors", True, Level.OK, told, None)


async def _check_others(loaded: config.Config) -> list[Check]:
    """Feeds that owe something and that nobody sends. A ledger that does not answer is told by its own check."""
    try:
        async with opened_ledger(loaded) as ledger:
            others = await unconfigured(ledger, loaded.feeds)
    except RowrelayError:
        return []
    return [Check(f"feed {other.feed}", True, Level.WARNING, other.said(utc_now()), None) for other in others]


async def _check_all(loaded: config.Config) -> list[Check]:
    """All servers at once, so that several that do not answer cost no more time than one."""
    settings, feeds = loaded.settings, loaded.feeds.values()
    timeout = settings.connect_timeout.total_seconds()
    servers, partners = await asyncio.gather(
        asyncio.gather(
            _check_broker(settings),
            _check_ledger(settings),
            _check_source(loaded),
            _check_others(loaded),
        ),
        asyncio.gather(*(_checked(f"partner {feed.name}", _partner_check(feed, timeout)) for feed in feeds)),
    )
    return [*(check for checks in servers for check in checks), _check_descriptors(loaded), *partners]


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
        reached = await _checked(name, connect)
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
    first = await _checked(name, read)
    if not first.ok:
        return [first]
    details = [
        Check(f"{name}: {found.subject}", found.level is not Level.FAILED, found.level, found.detail, None)
        for found in findings
    ]
    return [first, *details, await _checked(f"{name}: waiting", lambda: _waiting(source, feed, cursor))]


def _of_columns(problem: Problem) -> Finding:
    """What the configuration cannot tell where a feed does not list its columns."""
    return Finding(problem.field.split(".", 2)[2], Level.FAILED, f"no column {problem.found}; {problem.allowed}")


async def _newest_row(source: Source, feed: Feed, cursor: Cursor | None) -> list[Finding]:
    """Where no request can be made of the newest row that the feed would send: why, and what to do."""
    row = await newest_row(feed, source, cursor.columns if cursor else ())
    if row is None:
        return []
    subject = of_source(feed, row, utc_now())
    shown = shown_request(prepare(feed), subject)
    if shown["sent"] or subject.unsent:
        return []
    detail = f"delivery {subject.delivery.id} would be a dead letter: {shown['reason']}"
    return [Finding("newest row", Level.FAILED, detail)]


async def _waiting(source: Source, feed: Feed, cursor: Cursor | None) -> str:
    """Rows beyond the cursor. Where the ledger does not answer, as if the feed had not begun."""
    since = "the cursor" if cursor else "the feed's start, as the ledger does not answer"
    count = await source.waiting(feed, cursor or Cursor(feed.name), WAITING_SHOWN)
    return f"{count}{' or more' if count == WAITING_SHOWN else ''} rows beyond {since}"


async def _checked(name: str, check: Callable[[], Awaitable[str]]) -> Check:
    started = time.monotonic()
    try:
        detail, level = await check(), Level.OK
    except (RowrelayError, RedisError, OSError, TimeoutError) as error:
        detail, level = _one_line(error), Level.FAILED
    return Check(name, level is Level.OK, level, detail, (time.monotonic() - started) * 1000)


def _one_line(error: Exception) -> str:
    """The error on one line; of a `ConfigError` its problems alone."""
    said = "; ".join(map(str, error.problems)) if isinstance(error, ConfigError) else str(error)
    return " ".join(said.split()) or type(error).__name__


async def _check_broker(settings: config.Settings) -> list[Check]:
    """Redis itself, then each of the other clients that will use it: those only where it answers at all."""
    first = await _checked(doctor_broker.NAME, lambda: doctor_broker.version(settings))
    if not first.ok:
        return [first]

    def asking(client: Callable[[], str]) -> Callable[[], Awaitable[str]]:
        return lambda: doctor_broker.ask(client, settings)

    others = [await _checked(name, asking(client)) for name, client in doctor_broker.clients().items()]
    found = [*doctor_broker.doubts(settings), *await doctor_broker.misused(settings)]
    doubts = [Check(name, True, level, detail, None) for name, level, detail in found]
    return [first, *others, *doubts]


async def _check_ledger(settings: config.Settings) -> list[Check]:
    """Who answers, whether it takes writes, and its indexes: each asked only where the one before is well.

    The clocks of the processes only where it is one that answers us.
    """
    name = "ledger (MONGO_URL)"
    ledger: list[Ledger] = []
    found: list[Role] = []

    async def who() -> str:
        ledger.append(Ledger.at(settings.mongo_url.get_secret_value(), settings.connect_timeout))
        found.append(await ledger[0].examination(settings.connect_timeout).role())
        return found[0].about

    async def write() -> str:
        await ledger[0].examination(settings.connect_timeout).write()
        return "a document of its own written and deleted, acknowledged by a majority"

    async def index() -> str:
        await ledger[0].examination(settings.connect_timeout).partial_index()
        return "a partial index made"

    checks: list[Check] = []
    clocks: list[tuple[Mark, str]] = []
    try:
        for subject, ask in ((name, who), ("ledger: writing", write), ("ledger: indexes", index)):
            checks.append(await _checked(subject, ask))
            if not checks[-1].ok:
                break
        with suppress(RowrelayError):
            clocks = await wrong_clocks(ledger[0]) if found else []
    finally:
        for opened in ledger:
            await opened.close()
    doubts = [(f"ledger: {subject}", detail) for role in found for subject, detail in role.warnings.items()]
    doubts += [(f"{mark.role.value} {mark.name}: clock", said) for mark, said in clocks]
    return [*checks, *(Check(subject, True, Level.WARNING, detail, None) for subject, detail in doubts)]


def _partner_check(feed: Feed, timeout: float) -> Callable[[], Awaitable[str]]:
    """Connect to the partner's host and port, TLS included, and send nothing."""

    async def check() -> str:
        host, port = feed.partner.url.host, feed.partner.url.port
        context = tls_context(feed.partner.tls) if feed.partner.url.scheme == "https" else None
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
        except TimeoutError:
            raise TimeoutError(f"{host}:{port}: no answer within {timeout:g} s") from None
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return f"{host}:{port} accepts connections"

    return check
