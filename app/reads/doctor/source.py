"""What `doctor` asks of the source: that it answers, and of each feed's table what a poll will
need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from app.core.clock import utc_now
from app.core.cursors import Cursor
from app.core.errors import Problem, RowrelayError
from app.feeds.feed import Feed
from app.partner.problems import column_problems
from app.partner.request import prepare
from app.reads.doctor.check import Check, Servers, checked, found
from app.reads.preview import preview_request
from app.reads.subject import newest_row, of_source
from app.source.columns import columns_finding, sent_names
from app.source.engine import check_reachable
from app.source.findings import Finding, Level
from app.source.reader import Source

WAITING_SHOWN = 10_000
"""Rows waiting are counted up to this many, so that the question stays cheap."""


async def check_source(
    servers: Servers, feeds: Mapping[str, Feed], url: str, patience: timedelta
) -> list[Check]:
    """The source, then each feed; feeds only where the source answers, so that one cause is told
    once.

    `patience`: `CONNECT_TIMEOUT`.
    """

    async def connect() -> str:
        source = servers.source
        await check_reachable(url, patience)
        return await source.version()

    checks = [await checked("source (SOURCE_URL)", connect)]
    if checks[0].ok:
        cursors = await _cursors(servers, feeds)
        for feed in feeds.values():
            checks += await check_feed(servers.source, feed, cursors.get(feed.name))
    return checks


async def _cursors(servers: Servers, feeds: Iterable[str]) -> dict[str, Cursor]:
    """Feed → cursor; none where the ledger does not answer, which has a check of its own."""
    try:
        return {name: await servers.ledger.cursors.get(name) for name in feeds}
    except RowrelayError:
        return {}


async def check_feed(source: Source, feed: Feed, cursor: Cursor | None) -> list[Check]:
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
    details = [
        found(f"{name}: {finding.subject}", finding.level, finding.detail) for finding in findings
    ]
    return [
        first,
        *details,
        await checked(f"{name}: waiting", lambda: _waiting(source, feed, cursor)),
    ]


def _of_columns(problem: Problem) -> Finding:
    """What the configuration cannot tell where a feed does not list its columns."""
    return Finding(
        problem.field.split(".", 2)[2],
        Level.FAILED,
        f"no column {problem.found}; {problem.allowed}",
    )


async def _newest_row(source: Source, feed: Feed, cursor: Cursor | None) -> list[Finding]:
    """Whether a request can be made of the newest row that the feed would send, with each header
    whose value comes from it; nothing where there is none."""
    row = await newest_row(feed, source, cursor.columns if cursor else ())
    if row is None:
        return []
    subject, prepared = of_source(feed, row, utc_now()), prepare(feed)
    previewed = preview_request(prepared, subject)
    name, who = "newest row", f"delivery {subject.delivery.id}"
    if previewed.sent:
        headers = f", with {', '.join(prepared.row_headers)}" if prepared.row_headers else ""
        return [
            Finding(
                name, Level.OK, f"{who}: a request of {len(previewed.body.encode())} bytes{headers}"
            )
        ]
    if subject.unsent:
        return [Finding(name, Level.OK, f"{who} would not be sent: {previewed.unsent}")]
    return [Finding(name, Level.FAILED, f"{who} would be a dead letter: {previewed.unsent}")]


async def _waiting(source: Source, feed: Feed, cursor: Cursor | None) -> str:
    """Rows beyond the cursor. Where the ledger does not answer, as if the feed had not begun."""
    since = "the cursor" if cursor else "the feed's start, as the ledger does not answer"
    count = await source.waiting(feed, cursor or Cursor(feed.name), WAITING_SHOWN)
    return f"{count}{' or more' if count == WAITING_SHOWN else ''} rows beyond {since}"
