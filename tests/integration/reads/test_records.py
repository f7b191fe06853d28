"""What the ledger keeps for people, as typed records: certificates, notifications, reports; and the
statements of a feed.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.clock import utc_now
from app.core.errors import ConfigError, Problem, UnknownFeed
from app.core.events import Event, Found
from app.core.period import parse_period
from app.core.states import State
from app.ledger import Ledger
from app.ledger.notifications import Message
from app.ledger.outbox import Sending
from app.operations.by import By
from app.operations.report import publish_report
from app.reads.certificates import FeedCertificate, read_certificates
from app.reads.notifications import MessageSent, read_notifications
from app.reads.reports import read_report
from app.reads.statements import read_statements
from app.reports.record import ALL
from app.reports.reporting import Reporting
from app.source.reader import Source
from tests.support.doubles import Post
from tests.support.feeds import make_feed

UTC_ZONE = ZoneInfo("UTC")


async def test_each_feed_has_its_last_certificate_and_one_that_left_only_what_is_wrong(
    ledger: Ledger,
) -> None:
    now = utc_now().replace(microsecond=0)
    removed = Discrepancy(DiscrepancyKind.REMOVED, 2)
    for feed, found in (("orders", ()), ("gone", (removed,)), ("over", ())):
        await ledger.cursors.note_poll(feed, now)
        await ledger.certificates.save(
            Certificate(feed, now, 5, 5, {State.DELIVERED: 5}, discrepancies=found)
        )
    orders, new, gone = await read_certificates(ledger, ["orders", "new"], removed=True)
    assert (orders.feed, orders.complete, orders.configured) == ("orders", True, True)
    assert new == FeedCertificate("new", None)
    assert not new.complete
    assert (gone.feed, gone.complete, gone.configured) == ("gone", False, False)
    assert [one.feed for one in await read_certificates(ledger, ["orders"])] == ["orders"]


async def test_an_event_tells_what_is_wrong_and_how_its_message_went_each_way(
    ledger: Ledger,
) -> None:
    now = utc_now().replace(microsecond=0)
    begun = await ledger.notifications.begin(
        Found(Event.FEED_PAUSED, "orders", "by an operator"), now
    )
    assert begun is not None
    (before,) = await read_notifications(ledger)
    assert (before.messages, before.sent) == (0, [])
    await ledger.notifications.say(begun, Message.BEGAN, ["mail"], now, now + timedelta(hours=1))
    (told,) = await read_notifications(ledger)
    assert (told.event, told.subject, told.wrong) == (
        Event.FEED_PAUSED,
        "orders",
        "the feed is paused",
    )
    assert (told.said, told.began_at, told.over_at, told.messages) == (
        "by an operator",
        now,
        None,
        1,
    )
    assert told.sent == [MessageSent("mail", Sending.OWED, 0, None)]


async def test_a_report_is_read_without_being_kept_and_kept_and_sent_when_told(
    ledger: Ledger, tmp_path: Path
) -> None:
    yesterday, today = (parse_period(name, UTC_ZONE) for name in ("yesterday", "today"))
    reporting = Reporting(ledger, ["orders"], zone=UTC_ZONE, folder=tmp_path, senders=[Post()])
    with pytest.raises(UnknownFeed):
        await read_report(reporting, ["orders"], yesterday, "ordres")
    found = await read_report(reporting, ["orders"], yesterday)
    assert found is not None
    assert (found.feed, found.running) == (ALL, False)
    assert await ledger.reports.get(ALL, yesterday.name) is None
    published = await publish_report(reporting, found, yesterday, By("anna@here"), send=True)
    assert published.not_sent == {}
    assert await ledger.reports.get(ALL, yesterday.name) is not None
    running = await read_report(reporting, ["orders"], today, "orders")
    assert running is not None
    assert running.running
    await publish_report(reporting, running, today, By("anna@here"))
    assert await ledger.reports.get("orders", today.name) is None, "it is not over"


async def test_statements_are_written_for_the_product_where_the_source_cannot_be_opened() -> None:
    def unopened() -> Source:
        raise ConfigError([Problem("environment", "SOURCE_URL", "nothing", "a URL")])

    found = await read_statements(make_feed(), unopened)
    assert (found.feed, found.product) == ("orders", "mssql")
    assert found.note is not None
    assert "SOURCE_URL" in found.note
    named = {statement.name for statement in found.statements}
    assert {"page", "waiting"} <= named
    assert (await read_statements(make_feed(), unopened, "sqlite")).product == "sqlite"
