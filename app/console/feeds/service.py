"""Feeds: how each is doing, its past, and what an operator does with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from app.configuration.loaded import Loaded
from app.console.audit.service import Audit
from app.console.errors import Conflict, Invalid, NotFound
from app.console.feeds.lags import Lags
from app.console.feeds.live import Live, Watch
from app.console.feeds.overview import Overview, read_overview
from app.console.feeds.rewind_tokens import LASTS, CountedRewind, RewindTokens
from app.console.feeds.schemas import Range
from app.console.masked import HIDDEN, masked_body
from app.console.security.roles import Permission, Principal
from app.console.snapshot import Snapshot
from app.core.certificates import Certificate
from app.core.clock import Clock, utc_now
from app.core.cursors import Cursor
from app.core.errors import CursorMoved, UnknownFeed
from app.feeds.feed import Feed
from app.operations.by import By
from app.operations.pause import Part, Resumed, pause, resume
from app.operations.rewind import Rewound
from app.partner.request import prepare
from app.reads.configuration import Field, configuration_of
from app.reads.history import Histories, Step
from app.reads.preview import RequestPreview, preview_request
from app.reads.status import FeedStatus
from app.reads.subject import Subject, find_subject
from app.runtime.operator import Operator

RANGES = {
    Range.HOUR: (timedelta(minutes=2), 30),
    Range.DAY: (timedelta(minutes=30), 48),
    Range.WEEK: (timedelta(hours=3), 56),
}
"""Range → the length of a step, and how many there are."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One feed."""

    overview: Overview
    status: FeedStatus
    cursor: Cursor
    certificate: Certificate | None
    configuration: Sequence[Field]
    """Empty: feeds.toml does not name it."""
    feed: Feed | None
    range: Range
    history: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Previewed:
    """A row, and the request that would be sent for it."""

    subject: Subject
    request: RequestPreview
    masked: bool


@dataclass(frozen=True, slots=True)
class RewindCounted:
    """What a rewind would do, and the token with which it is done."""

    rewound: Rewound
    counted: CountedRewind
    token: str


class Feeds:
    """Reads and operates feeds."""

    def __init__(
        self,
        loaded: Loaded,
        operator: Operator,
        audit: Audit,
        secret: str,
        now: Clock = utc_now,
    ) -> None:
        """`secret`: the console's, which signs what was counted before a rewind."""
        self._loaded = loaded
        self._operator = operator
        self._audit = audit
        self._now = now
        self._lags = Lags(operator)
        self._histories: Histories | None = None
        self._tokens = RewindTokens(secret)
        self._snapshot: Snapshot[Overview] = Snapshot(self._read_overview)
        self.live = Live(self._snapshot.get)
        """Tells of every new overview."""

    async def close(self) -> None:
        """Stop what is being read."""
        self.live.end()
        await self._snapshot.close()
        await self._lags.close()

    async def overview(self, actor: Principal) -> Overview:
        """How everything is doing, a few seconds ago at most. Raises `Forbidden`, and the ledger's
        errors."""
        actor.require(Permission.LOOK)
        return await self._snapshot.get()

    def forget(self) -> None:
        """Have the overview read anew for who asks next: something has changed."""
        self._snapshot.forget()

    def watching(
        self, actor: Principal, still: Callable[[], Awaitable[object]]
    ) -> AbstractAsyncContextManager[Watch]:
        """Be told of every new overview. `still`: see `Live.watching`. Raises `Forbidden`,
        `TooMany`."""
        actor.require(Permission.LOOK)
        return self.live.watching(still)

    async def detail(self, actor: Principal, name: str, back: Range = Range.HOUR) -> Detail:
        """One feed, and its past. Raises `Forbidden`; `UnknownFeed` for one that neither feeds.toml
        names nor owes anything; the ledger's errors."""
        actor.require(Permission.LOOK)
        overview = await self._snapshot.get()
        line = overview.line(name)
        feed = self._loaded.feeds.get(name)
        if line is None:
            raise UnknownFeed(name, [line.status.feed for line in overview.lines])
        ledger = self._operator.ledger
        step, count = RANGES[back]
        return Detail(
            overview=overview,
            status=line.status,
            cursor=await ledger.cursors.get(name),
            certificate=await ledger.certificates.latest(name),
            configuration=configuration_of(feed) if feed else (),
            feed=feed,
            range=back,
            history=await self._history().read(name, self._now(), step, count),
        )

    async def preview(
        self, actor: Principal, name: str, key: str, why: str | None = None
    ) -> Previewed:
        """The request that would be sent for a row. Without `why` what comes of the row is masked;
        with it all but secrets is shown, which is on record.

        Raises `Forbidden`, `UnknownFeed`, `AmbiguousKey`; `NotFound` for a row that is nowhere; the
        errors of ledger and source.
        """
        actor.require(Permission.LOOK if why is None else Permission.REVEAL)
        feed = self._loaded.feed(name)
        operator = self._operator
        prepared = prepare(feed)
        subject = await find_subject(feed, operator.ledger, operator.source, key, self._now())
        if subject is None:
            raise NotFound(
                f"feed {name}: no row with key {key!r}, neither in the ledger nor in the source"
            )
        request = preview_request(prepared, subject)
        if why is None:
            return Previewed(subject, _masked(feed, request), masked=True)
        await self._audit.note(actor, "row.revealed", subject.delivery.id, why=why)
        return Previewed(subject, request, masked=False)

    async def pause(self, actor: Principal, name: str, part: Part, why: str) -> Resumed:
        """Pause polling, sending or both. Raises `Forbidden`, `UnknownFeed`, and the ledger's
        errors."""
        before = await self._asked(actor, name, "feed.pause_asked", part, why)
        cursor = await pause(self._operator.ledger, name, By(actor.name, why), part)
        changed = cursor.stopped != before.stopped
        await self._came_of(actor, name, "feed.paused", why, before, cursor)
        return Resumed(changed, cursor)

    async def resume(self, actor: Principal, name: str, part: Part, why: str) -> Resumed:
        """Go on with polling, sending or both. Raises as `pause`."""
        before = await self._asked(actor, name, "feed.resume_asked", part, why)
        resumed = await resume(self._operator.ledger, name, By(actor.name, why), part)
        await self._came_of(actor, name, "feed.resumed", why, before, resumed.cursor)
        return resumed

    async def count_rewind(self, actor: Principal, name: str, to: str) -> RewindCounted:
        """What a rewind would do; moves nothing. Raises `Forbidden`, `UnknownFeed`; `Invalid` for a
        position that is none of the feed's; the errors of ledger and source."""
        actor.require(Permission.CONTROL_FEEDS)
        feed = self._loaded.feed(name)
        position = _position(feed, to)
        rewinding = self._operator.rewinding
        rewound = await rewinding.preview(feed, position)
        again = await rewinding.delivered_again(feed, position)
        assert rewound.reread is not None  # noqa: S101 - of a preview
        counted = CountedRewind(
            user_id=actor.user_id,
            feed=name,
            to=to,
            stood=rewound.stood_said,
            stands=rewound.stands_said,
            rows=rewound.reread.rows,
            known=rewound.reread.known,
            complete=rewound.reread.complete,
            delivered_again=again,
            until=(self._now() + LASTS).isoformat(),
        )
        return RewindCounted(rewound, counted, self._tokens.sign(counted))

    async def rewind(
        self,
        actor: Principal,
        name: str,
        to: str,
        token: str,
        why: str,
        *,
        deliver_again: bool = False,
    ) -> Rewound:
        """Move the cursor, after it was counted what that does: `token` is of that.

        Raises as `count_rewind`; `Conflict` for the token of another count, where rows would be
        delivered again and that was not said to be meant, and where a poll moved the cursor at the
        same moment.
        """
        actor.require(Permission.CONTROL_FEEDS)
        feed = self._loaded.feed(name)
        position = _position(feed, to)
        counted = self._tokens.read(token, actor.user_id, name, to, self._now())
        again = await self._operator.rewinding.delivered_again(feed, position)
        if again is not None and not deliver_again:
            raise Conflict(
                f"records up to {again} are purged: rows up to there are delivered again. Say so if that is meant"
            )
        told = {"to": to, "rows": counted.rows, "known": counted.known, "complete": counted.complete}  # fmt: skip
        await self._audit.note(actor, "feed.rewind_asked", name, why=why, after=told)
        try:
            rewound = await self._operator.rewinding.rewind(feed, position, By(actor.name, why))
        except CursorMoved as error:
            raise Conflict(f"feed {name}: a poll moved its cursor meanwhile: try again") from error
        self.forget()
        await self._audit.note(
            actor,
            "feed.rewound",
            name,
            why=why,
            before=rewound.stood_said,
            after=rewound.stands_said,
        )
        return rewound

    async def _asked(
        self, actor: Principal, name: str, action: str, part: Part, why: str
    ) -> Cursor:
        """Note what is about to be done; returns the cursor before it."""
        actor.require(Permission.CONTROL_FEEDS)
        self._loaded.feed(name)
        before = await self._operator.ledger.cursors.get(name)
        await self._audit.note(actor, action, name, why=why, after={"part": part.value})
        return before

    async def _came_of(
        self, actor: Principal, name: str, action: str, why: str, before: Cursor, after: Cursor
    ) -> None:
        self.forget()
        await self._audit.note(
            actor, action, name, why=why, before=_pauses(before), after=_pauses(after)
        )

    async def _read_overview(self) -> Overview:
        return await read_overview(
            self._loaded, self._operator, self._lags, self._history(), self._now
        )

    def _history(self) -> Histories:
        self._histories = self._histories or Histories(self._operator.ledger)
        return self._histories


def _position(feed: Feed, to: str) -> int | str:
    """Raises `Invalid`."""
    if to in ("beginning", "now"):
        return to
    try:
        return feed.cursor.parse_position(to)
    except ValueError as error:
        raise Invalid(f"to: {error}", "body.to") from error


def _pauses(cursor: Cursor) -> dict[str, object]:
    return {"polled": not cursor.paused, "sent": cursor.sends, "paused": cursor.stopped}


def _masked(feed: Feed, request: RequestPreview) -> RequestPreview:
    """The request without what comes of the row, but for its key."""
    of_row = {name.lower() for name, value in feed.partner.headers.items() if "$" in value}
    headers = {
        name: HIDDEN if name.lower() in of_row else value for name, value in request.headers.items()
    }
    return RequestPreview(
        request.unsent, request.method, request.url, headers, masked_body(request.body)
    )
