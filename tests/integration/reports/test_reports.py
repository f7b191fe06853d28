"""Reports are kept once, revised when they change, written whole, and sent until someone takes
them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
import trustme
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier

from app.core.attempts import Outcome
from app.core.certificates import Certificate
from app.core.clock import Clock
from app.core.errors import Unavailable
from app.core.period import Kind, Period, parse_period
from app.core.states import State
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.outbox import Sending
from app.reports.outgoing import OutgoingReport
from app.reports.record import ALL, VERSION, Report
from app.reports.reporting import MAX_TRIES, Compiled, Reporting
from app.sending.mail import Mail, MailServer, compose
from app.sending.outbox import SENT_AT_ONCE
from app.sending.outgoing import NotSent, Outgoing, Sender
from app.sending.webhook import Webhook
from tests.support import doubles
from tests.support.buckets import day_of
from tests.support.doubles import Wheel
from tests.support.hooks import listener
from tests.support.mailbox import PASSWORD, USER, Mailbox, mailbox

BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = parse_period("2026-11-21", BERLIN)
AFTER = PERIOD.end + timedelta(minutes=2)
HOUR = timedelta(hours=1)
SECRET = SecretStr("whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0")
WRONG = "hunter2-wrong"


def certificate(at: datetime, rows: int = 5000, *, begun_at: datetime | None = None) -> Certificate:
    """One that balances, begun when it ended unless said otherwise."""
    return Certificate(
        "orders", at, rows + 12, rows, {State.DELIVERED: rows}, begun_at=begun_at or at
    )


CERTIFICATE = certificate(PERIOD.end + timedelta(minutes=1))


class Post(doubles.Post):
    """That reports go out by."""

    async def send(self, outgoing: Outgoing) -> None:
        assert isinstance(outgoing, OutgoingReport)
        await super().send(outgoing)


def reporting(
    ledger: Ledger,
    folder: Path,
    *senders: Sender,
    now: Clock | None = None,
    feeds: Sequence[str] = ("orders",),
    sent: Sequence[Kind] = (Kind.DAY,),
) -> Reporting:
    return Reporting(
        ledger,
        feeds,
        zone=BERLIN,
        folder=folder,
        senders=senders,
        sent=sent,
        now=now or Wheel(AFTER),
    )


@pytest.fixture
async def day(ledger: Ledger) -> Ledger:
    """A ledger with a day behind it, of which only the first hour was busy."""
    await ledger._database["stats"].insert_many(day_of("orders", 5000, bad=True, minutes=60))
    await ledger.certificates.save(CERTIFICATE)
    return ledger


async def purge_stats(ledger: Ledger, feed: str, before: datetime) -> None:
    """Delete the feed's minutes before then, as a purge does."""
    claim = await ledger.purges.claim(feed, "purge@here", AFTER, HOUR)
    assert claim is not None
    await ledger.purges.note_stats(claim, before)
    while await ledger.retention.drop_stats(feed, before):
        pass


async def stored(ledger: Ledger, feed: str = ALL) -> Document:
    found = await ledger.reports.get(feed, PERIOD.name)
    assert found is not None
    return found


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- compiling and keeping


async def test_a_day_is_compiled_from_its_minutes(day: Ledger, tmp_path: Path) -> None:
    before = await day.stats.between("orders", PERIOD.start - HOUR, PERIOD.end + HOUR)
    whole, orders = await reporting(day, tmp_path).compile(PERIOD)
    assert (whole.feed, orders.feed) == (ALL, "orders")
    assert orders.totals.delivered == sum(
        bucket["outcomes"].get("delivered", 0) for bucket in before
    )
    assert [proof.source_rows for proof in orders.certificates] == [5000]
    assert (tmp_path / "orders" / "2026-11-21.html").exists()
    kept = orjson.loads((tmp_path / "_all" / "2026-11-21.json").read_bytes())
    assert kept == (await stored(day))["report"]


async def test_compiling_again_changes_nothing(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(AFTER)
    await reporting(day, tmp_path, now=clock).compile(PERIOD)
    before = [await stored(day), await stored(day, "orders")]
    files = contents(tmp_path)
    clock.at += 6 * HOUR
    await reporting(day, tmp_path, now=clock).compile(PERIOD)
    assert [await stored(day), await stored(day, "orders")] == before
    assert contents(tmp_path) == files


async def test_compilations_at_once_keep_one_report(day: Ledger, tmp_path: Path) -> None:
    post = Post()
    await asyncio.gather(*(reporting(day, tmp_path, post).compile(PERIOD) for _ in range(4)))
    assert "revised" not in await stored(day)
    assert await day._database["reports"].count_documents({}) == 2
    assert len(post.sent) == 1


async def test_a_late_change_marks_the_report_as_revised(day: Ledger, tmp_path: Path) -> None:
    clock, post = Wheel(AFTER), Post()
    work = reporting(day, tmp_path, post, now=clock)
    await work.compile(PERIOD)
    was = (await stored(day))["report"]["totals"]["unknown"]
    for count in (1, 2):
        clock.at += HOUR
        await day.stats.add_outcomes("orders", Outcome.UNKNOWN, 3, PERIOD.end - HOUR)
        await work.compile(PERIOD)
        revised = (await stored(day))["revised"]
        assert (revised["count"], revised["at"]) == (count, clock.at)
        assert {
            "field": "totals.unknown",
            "was": was + 3 * count - 3,
            "now": was + 3 * count,
        } in revised["changes"]
    assert [outgoing.revised["count"] if outgoing.revised else 0 for outgoing in post.sent] == [
        0,
        1,
        2,
    ]
    page = (tmp_path / "_all" / "2026-11-21.html").read_text()
    assert "Compiled again 2 times with another result" in page


async def _as_an_older_version(ledger: Ledger) -> None:
    """Have the ledger hold the day's reports as a version stored them that knew fewer figures."""
    unset = {
        "report.version": "",
        "report.totals.unsendable": "",
        "report.spans.$[].counts.revived": "",
    }
    await ledger._database["reports"].update_many({}, {"$unset": unset})


async def test_a_report_is_not_revised_by_the_fields_of_a_newer_version(
    day: Ledger, tmp_path: Path
) -> None:
    post = Post()
    work = reporting(day, tmp_path, post)
    before = await work.compile(PERIOD)
    await _as_an_older_version(day)
    assert await work.compile(PERIOD) == before
    kept = await stored(day)
    assert kept["report"]["totals"]["unsendable"] == before[0].totals.unsendable
    assert kept["report"]["version"] == VERSION
    assert "revised" not in kept
    assert len(post.sent) == 1


async def test_other_figures_revise_a_report_of_an_older_version(
    day: Ledger, tmp_path: Path
) -> None:
    post = Post()
    work = reporting(day, tmp_path, post)
    await work.compile(PERIOD)
    await _as_an_older_version(day)
    await day.stats.add_outcomes("orders", Outcome.UNKNOWN, 3, PERIOD.end - HOUR)
    await work.compile(PERIOD)
    changed = {change["field"] for change in (await stored(day))["revised"]["changes"]}
    assert "totals.unknown" in changed
    assert not {"version", "totals.unsendable"} & changed
    assert len(post.sent) == 2


async def test_an_older_version_leaves_a_newer_ones_report_as_it_is(
    day: Ledger, tmp_path: Path
) -> None:
    work = reporting(day, tmp_path)
    before = await work.compile(PERIOD)
    newer = {"report.version": VERSION + 1, "report.totals.invented": 7}
    await day._database["reports"].update_many({}, {"$set": newer})
    assert [report.totals for report in await work.compile(PERIOD)] == [
        report.totals for report in before
    ]
    kept = await stored(day)
    assert (kept["report"]["version"], kept["report"]["totals"]["invented"]) == (VERSION + 1, 7)
    assert "revised" not in kept


async def test_a_report_of_an_older_version_outlives_its_statistics(
    day: Ledger, tmp_path: Path
) -> None:
    work = reporting(day, tmp_path)
    delivered = [report.totals.delivered for report in await work.compile(PERIOD)]
    await _as_an_older_version(day)
    await day._database["stats"].delete_many({})
    assert [report.totals.delivered for report in await work.compile(PERIOD)] == delivered
    assert "version" not in (await stored(day))["report"]


async def test_a_report_outlives_its_statistics(day: Ledger, tmp_path: Path) -> None:
    work = reporting(day, tmp_path)
    before = await work.compile(PERIOD)
    await day._database["stats"].delete_many({})
    assert await work.compile(PERIOD) == before
    assert await work.preview(PERIOD) == before
    assert "revised" not in await stored(day)


async def test_a_report_outlives_a_part_of_its_statistics(day: Ledger, tmp_path: Path) -> None:
    await day._database["stats"].insert_many(day_of("invoices", 100, bad=False, minutes=60))
    work = reporting(day, tmp_path, feeds=["invoices", "orders"])
    before = await work.compile(PERIOD)
    await purge_stats(day, "orders", PERIOD.start + HOUR / 2)
    assert await work.compile(PERIOD) == before
    assert await work.preview(PERIOD) == before
    assert "revised" not in await stored(day)


async def test_no_report_is_made_of_what_is_left_of_the_statistics(
    day: Ledger, tmp_path: Path
) -> None:
    await day._database["stats"].insert_many(day_of("invoices", 100, bad=False, minutes=60))
    await purge_stats(day, "orders", PERIOD.start + HOUR / 2)
    work = reporting(day, tmp_path, feeds=["invoices", "orders"])
    assert [report.feed for report in await work.compile(PERIOD)] == ["invoices"]
    assert [report.feed for report in await work.preview(PERIOD)] == ["invoices"]
    assert (
        await day.reports.get("orders", PERIOD.name)
        is await day.reports.get(ALL, PERIOD.name)
        is None
    )


async def test_a_running_period_is_looked_at_and_not_kept(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(PERIOD.start + 10 * HOUR + timedelta(minutes=20, microseconds=5))
    work = reporting(day, tmp_path, now=clock)
    whole, orders = await work.preview(PERIOD)
    assert whole.running
    assert len(orders.spans) == 11
    with pytest.raises(ValueError, match="still running"):
        await work.compile(PERIOD)
    with pytest.raises(ValueError, match="has not begun"):
        await work.preview(parse_period("2026-11-22", BERLIN))
    assert await day.reports.get(ALL, PERIOD.name) is None
    assert contents(tmp_path) == {}


async def test_a_snapshot_is_written_and_not_kept(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(PERIOD.start + 10 * HOUR)
    period = Period(Kind.HOUR, PERIOD.start, PERIOD.start + HOUR, "demo")
    reports, page = await reporting(day, tmp_path, now=clock).snapshot(period)
    assert [report.feed for report in reports] == [ALL, "orders"]
    assert page == tmp_path / "_all" / "demo.html"
    assert "All feeds" in page.read_text()
    assert await day._database["reports"].count_documents({}) == 0


async def test_a_feed_that_is_no_longer_configured_is_in_the_days_report(
    day: Ledger, tmp_path: Path
) -> None:
    reports = await reporting(day, tmp_path, feeds=["invoices"]).compile(PERIOD)
    assert [report.feed for report in reports] == [ALL, "invoices", "orders"]
    next_day = parse_period("2026-11-22", BERLIN)
    clock = Wheel(next_day.end + HOUR)
    reports = await reporting(day, tmp_path, feeds=["invoices"], now=clock).compile(next_day)
    assert [report.feed for report in reports] == [ALL, "invoices"]


async def test_a_day_takes_the_last_certificate_of_the_day_after_it(
    day: Ledger, tmp_path: Path
) -> None:
    for hours, rows in ((-5, 4000), (6, 5001), (30, 6000)):
        await day.certificates.save(certificate(PERIOD.end + hours * HOUR, rows))
    _, orders = await reporting(day, tmp_path, now=Wheel(PERIOD.end + 40 * HOUR)).compile(PERIOD)
    assert [proof.source_rows for proof in orders.certificates] == [5001]


async def test_a_day_is_not_certified_by_a_comparison_that_began_before_its_end(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger._database["stats"].insert_many(day_of("orders", 5000, bad=False, minutes=60))
    await ledger.certificates.save(certificate(PERIOD.end - 30 * 24 * HOUR, 12))
    await ledger.certificates.save(certificate(PERIOD.end + HOUR, begun_at=PERIOD.end - HOUR))
    whole, orders = await reporting(ledger, tmp_path).compile(PERIOD)
    assert (orders.certificates, orders.uncertified, whole.uncertified) == (
        (),
        ("orders",),
        ("orders",),
    )
    assert whole.feeds[0].complete is None
    page = (tmp_path / "_all" / "2026-11-21.html").read_text()
    assert "No certificate of completeness for this day" in page
    assert "Complete. Every row" not in page


async def test_a_day_made_up_for_later_takes_the_first_comparison_begun_after_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger._database["stats"].insert_many(day_of("orders", 5000, bad=False, minutes=60))
    for days, rows in ((-1, 12), (3, 5001), (4, 6000)):
        await ledger.certificates.save(certificate(PERIOD.end + days * 24 * HOUR, rows))
    _, orders = await reporting(ledger, tmp_path, now=Wheel(PERIOD.end + 100 * HOUR)).compile(
        PERIOD
    )
    assert [proof.source_rows for proof in orders.certificates] == [5001]


async def test_a_day_is_complete_only_where_each_feed_is_certified(
    day: Ledger, tmp_path: Path
) -> None:
    await day._database["stats"].insert_many(day_of("invoices", 100, bad=False, minutes=60))
    whole, *_ = await reporting(day, tmp_path, feeds=["invoices", "orders"]).compile(PERIOD)
    assert (whole.incomplete, whole.uncertified) == ((), ("invoices",))
    page = (tmp_path / "_all" / "2026-11-21.html").read_text()
    assert "Not certified: invoices" in page
    assert "orders: <b>5,000 rows in the source</b>" in page
    assert "<p>Complete. Every row" not in page
    assert compose(outgoing(whole), "reports@example.org", ("ops@example.org",))[
        "Subject"
    ].startswith("NOT CERTIFIED")


async def test_an_hour_has_only_a_certificate_that_was_made_in_it(
    day: Ledger, tmp_path: Path
) -> None:
    clock = Wheel(PERIOD.end + 3 * HOUR)
    first, second = parse_period("2026-11-22T00", BERLIN), parse_period("2026-11-22T01", BERLIN)
    work = reporting(day, tmp_path, now=clock)
    assert [len(report.certificates) for report in await work.preview(first)] == [1, 1]
    assert [len(report.certificates) for report in await work.preview(second)] == [0, 0]


async def test_files_that_cannot_be_written_lose_no_report(day: Ledger, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    post = Post()
    with pytest.raises(Unavailable, match="REPORTS_DIR"):
        await reporting(day, taken, post).compile(PERIOD)
    assert (await stored(day))["report"]["period"] == PERIOD.name
    assert len(post.sent) == 1


async def test_files_of_days_long_over_are_removed(day: Ledger, tmp_path: Path) -> None:
    work = reporting(day, tmp_path)
    await work.compile(PERIOD)
    await work.compile(parse_period("2026-11-21T14", BERLIN))
    (tmp_path / "orders" / "notes.html").write_text("somebody's own")
    assert await work.prune("orders", PERIOD.start) == 0
    assert await work.prune("orders", PERIOD.end) == 6
    assert await work.prune("nobody", PERIOD.end) == 0
    assert {path.parent.name for path in contents(tmp_path)} == {"_all", "orders"}
    assert [path.name for path in contents(tmp_path / "orders")] == ["notes.html"]


# --- sending


async def test_only_the_report_of_all_feeds_of_a_day_is_sent_by_itself(
    day: Ledger, tmp_path: Path
) -> None:
    post, hour = Post(), parse_period("2026-11-21T14", BERLIN)
    work = reporting(day, tmp_path, post)
    await work.compile(hour)
    await work.compile(PERIOD)
    assert [outgoing.report.id for outgoing in post.sent] == ["*|2026-11-21"]
    sending = (await stored(day))["sending"]["post"]
    assert (sending["state"], sending["tries"]) == (Sending.SENT, 1)
    await reporting(day, tmp_path, post, sent=[Kind.HOUR]).compile(
        parse_period("2026-11-21T15", BERLIN)
    )
    assert [outgoing.report.period for outgoing in post.sent] == [
        "2026-11-21",
        "2026-11-21T15+01:00",
    ]


async def test_what_could_not_be_sent_is_sent_by_a_later_compilation(
    day: Ledger, tmp_path: Path
) -> None:
    clock, post = Wheel(AFTER), Post(failures=2)
    work = reporting(day, tmp_path, post, now=clock)
    await work.compile(PERIOD)
    sending = (await stored(day))["sending"]["post"]
    assert (sending["state"], sending["tries"], sending["error"]) == (
        Sending.OWED,
        1,
        "post: the office is closed",
    )
    await work.send_due()
    assert post.tried == 1, "not before its time"
    for hour in ("00", "01"):
        clock.at += HOUR
        await work.compile(parse_period(f"2026-11-22T{hour}", BERLIN))
    assert [outgoing.id for outgoing in post.sent] == ["*|2026-11-21|0"]
    sending = (await stored(day))["sending"]["post"]
    assert (sending["state"], sending["tries"]) == (Sending.SENT, 3)
    assert "error" not in sending
    assert "retry_at" not in await stored(day)


async def test_a_report_that_nobody_takes_is_given_up_and_kept(day: Ledger, tmp_path: Path) -> None:
    clock, post = Wheel(AFTER), Post(failures=999)
    work = reporting(day, tmp_path, post, now=clock)
    await work.compile(PERIOD)
    for _ in range(MAX_TRIES + 5):
        clock.at += 7 * HOUR
        await work.send_due()
    assert post.tried == MAX_TRIES
    found = await stored(day)
    assert (found["sending"]["post"]["state"], found["sending"]["post"]["tries"]) == (
        Sending.GIVEN_UP,
        MAX_TRIES,
    )
    assert found["report"]["period"] == PERIOD.name


async def test_one_way_that_fails_does_not_hold_up_the_other(day: Ledger, tmp_path: Path) -> None:
    clock, bad, good = Wheel(AFTER), Post(failures=1), Post()
    good.name = "other"
    work = reporting(day, tmp_path, bad, good, now=clock)
    await work.compile(PERIOD)
    clock.at += HOUR
    await work.send_due()
    assert (len(good.sent), len(bad.sent)) == (1, 1)


async def test_a_sender_that_dies_is_followed_by_another(day: Ledger, tmp_path: Path) -> None:
    class Dying(Post):
        async def send(self, outgoing: Outgoing) -> None:
            raise asyncio.CancelledError(outgoing.id)

    clock, post = Wheel(AFTER), Post()
    with pytest.raises(asyncio.CancelledError):
        await reporting(day, tmp_path, Dying(), now=clock).compile(PERIOD)
    await reporting(day, tmp_path, post, now=clock).send_due()
    assert not post.sent, "it may still be at it"
    clock.at += HOUR
    await reporting(day, tmp_path, post, now=clock).send_due()
    assert len(post.sent) == 1


async def test_a_report_revised_while_it_is_sent_is_sent_again(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(AFTER)

    class Slow(Post):
        async def send(self, outgoing: Outgoing) -> None:
            """While the first result is on its way, another takes its place."""
            await super().send(outgoing)
            if len(self.sent) == 1:
                clock.at += timedelta(seconds=10)
                await day.stats.add_outcomes("orders", Outcome.UNKNOWN, 3, PERIOD.end - HOUR)
                await reporting(day, tmp_path, self, now=clock).save(PERIOD)

    post = Slow()
    work = reporting(day, tmp_path, post, now=clock)
    await work.compile(PERIOD)
    await work.send_due()
    assert [outgoing.revised["count"] if outgoing.revised else 0 for outgoing in post.sent] == [
        0,
        1,
    ]
    assert (await stored(day))["sending"]["post"]["state"] == Sending.SENT.value


async def test_a_way_that_is_no_longer_configured_is_said(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(AFTER)
    await reporting(day, tmp_path, Post(failures=1), now=clock).compile(PERIOD)
    clock.at += HOUR
    await reporting(day, tmp_path, now=clock).send_due()
    assert (await stored(day))["sending"]["post"]["error"] == "post: not configured any more"


async def test_no_more_is_sent_at_once_than_the_bound(day: Ledger, tmp_path: Path) -> None:
    clock, post = Wheel(PERIOD.end + 40 * HOUR), Post()
    closed = reporting(day, tmp_path, Post(failures=99), sent=[Kind.HOUR], now=clock)
    start = parse_period("2026-11-21T00", BERLIN)
    for number in range(SENT_AT_ONCE + 2):
        name = f"2026-11-21T{number:02d}" if number < 24 else f"2026-11-22T{number - 24:02d}"
        await closed.save(parse_period(name, BERLIN))
    assert start.kind is Kind.HOUR
    work = reporting(day, tmp_path, post, now=clock)
    assert await work.send_due() == SENT_AT_ONCE
    assert await work.send_due() == 2


async def test_sending_on_demand_sends_again(day: Ledger, tmp_path: Path) -> None:
    post = Post()
    work = reporting(day, tmp_path, post)
    await work.compile(PERIOD)
    _, orders = await work.save(PERIOD)
    assert await work.send(orders) == {"post": None}
    running = await reporting(day, tmp_path, post, now=Wheel(PERIOD.end - HOUR)).preview(PERIOD)
    assert await work.send(Compiled(running[0])) == {"post": None}
    assert [outgoing.report.feed for outgoing in post.sent] == [ALL, "orders", ALL]


# --- e-mail


def mail(
    box: Mailbox, security: str = "none", password: str = PASSWORD, ca_file: Path | None = None
) -> Mail:
    host = "localhost" if security != "none" else "127.0.0.1"
    user = USER if security == "starttls" else ""
    secret = SecretStr(password if user else "")
    server = MailServer(host, box.port, security, user, secret, ca_file)  # type: ignore[arg-type] # one of its words
    return Mail(server, "Rowrelay <reports@example.org>", ("ops@example.org", "audit@example.org"))


def outgoing(day_report: Report) -> OutgoingReport:
    return OutgoingReport(day_report, None)


@pytest.fixture
async def day_report(day: Ledger, tmp_path: Path) -> Report:
    return (await reporting(day, tmp_path).preview(PERIOD))[0]


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return issuer, tmp_path / "ca.pem"


def server_context(issuer: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("localhost").configure_cert(context)
    return context


async def test_a_mail_has_the_figures_as_text_and_the_page_attached(day_report: Report) -> None:
    async with mailbox() as box:
        await mail(box).send(outgoing(day_report))
    (message,) = box.messages
    assert box.recipients == [["ops@example.org", "audit@example.org"]]
    assert message["Subject"] == "All feeds: Saturday, 21 November 2026"
    assert message["From"] == "Rowrelay <reports@example.org>"
    text, page = message.get_body(("plain",)), next(iter(message.iter_attachments()))
    assert text is not None
    assert "orders: complete: 5,000 source rows" in text.get_content()
    assert page.get_filename() == "2026-11-21.html"
    assert page.get_content_type() == "text/html"
    assert "<h1>All feeds" in page.get_content()


async def test_a_mail_sent_twice_can_be_told_for_one(day_report: Report) -> None:
    async with mailbox() as box:
        for _ in range(2):
            await mail(box).send(outgoing(day_report))
        await mail(box).send(OutgoingReport(day_report, {"count": 1, "at": AFTER, "changes": []}))
    first, second, revised = (message["Message-ID"] for message in box.messages)
    assert first == second != revised
    assert box.messages[2]["Subject"].endswith("(revised 1)")


async def test_a_day_that_is_not_complete_says_so_in_its_subject(
    day: Ledger, tmp_path: Path
) -> None:
    lost = replace(certificate(AFTER), states={State.DELIVERED: 4999}, missing=1)
    await day.certificates.save(lost)
    whole = (await reporting(day, tmp_path).preview(PERIOD))[0]
    async with mailbox() as box:
        await mail(box).send(outgoing(whole))
    assert box.messages[0]["Subject"].startswith("NOT COMPLETE: ")


async def test_mail_goes_over_starttls_after_a_login(
    day_report: Report, authority: tuple[trustme.CA, Path]
) -> None:
    issuer, ca_file = authority
    async with mailbox(server_context(issuer)) as box:
        await mail(box, "starttls", ca_file=ca_file).send(outgoing(day_report))
        with pytest.raises(NotSent) as refused:
            await mail(box, "starttls", password=WRONG, ca_file=ca_file).send(outgoing(day_report))
        with pytest.raises(NotSent, match="certificate"):
            await mail(box, "starttls").send(outgoing(day_report))
    assert box.encrypted == [True]
    assert WRONG not in str(refused.value), "though the server said it"
    assert "[secret]" in str(refused.value)


async def test_mail_goes_over_a_connection_that_begins_with_tls(
    day_report: Report, authority: tuple[trustme.CA, Path]
) -> None:
    issuer, ca_file = authority
    async with mailbox(server_context(issuer), implicit=True) as box:
        await mail(box, "tls", ca_file=ca_file).send(outgoing(day_report))
    assert len(box.messages) == 1


async def test_mail_is_never_sent_in_the_clear_where_tls_is_asked_for(day_report: Report) -> None:
    async with mailbox() as box:
        with pytest.raises(NotSent, match="STARTTLS"):
            await mail(box, "starttls").send(outgoing(day_report))
    assert not box.messages


async def test_a_server_that_refuses_or_is_away_is_said(day_report: Report) -> None:
    async with mailbox() as box:
        box.answer = "452 mailbox full"
        with pytest.raises(NotSent, match="452"):
            await mail(box).send(outgoing(day_report))
        box.answer, box.refuses = "250 OK", {"ops@example.org"}
        await mail(box).send(outgoing(day_report))
        assert box.recipients == [["audit@example.org"]], "one of two is enough"
        box.refuses = {"ops@example.org", "audit@example.org"}
        with pytest.raises(NotSent):
            await mail(box).send(outgoing(day_report))
    with pytest.raises(NotSent, match="SMTP"):
        await mail(box).send(outgoing(day_report))


async def test_a_mail_server_that_comes_back_gets_the_report(day: Ledger, tmp_path: Path) -> None:
    clock = Wheel(AFTER)
    async with mailbox() as box:
        box.answer = "451 try again later"
        work = reporting(day, tmp_path, mail(box), now=clock)
        await work.compile(PERIOD)
        assert "451" in (await stored(day))["sending"]["mail"]["error"]
        box.answer = "250 OK"
        clock.at += HOUR
        await work.send_due()
    assert len(box.messages) == 1


# --- webhook


async def test_a_webhook_gets_the_json_signed(day_report: Report) -> None:
    async with listener([]) as (url, received):
        await Webhook(SecretStr(url), SECRET).send(outgoing(day_report))
        await Webhook(SecretStr(url)).send(outgoing(day_report))
    (headers, body), (plain, _) = received
    assert orjson.loads(body)["totals"]["delivered"] == day_report.totals.delivered
    Verifier(SECRET.get_secret_value()).verify(body, headers)
    assert headers["webhook-id"] == plain["webhook-id"] == "*|2026-11-21|0"
    assert "webhook-signature" not in plain


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_a_webhook_that_takes_nothing_is_said_without_its_url(
    day_report: Report, status: int
) -> None:
    async with listener([status]) as (url, received):
        with pytest.raises(NotSent, match=f"answered {status}"):
            await Webhook(SecretStr(url)).send(outgoing(day_report))
        assert len(received) == 1, "redirects are not followed"
    with pytest.raises(NotSent) as away:
        await Webhook(SecretStr(url)).send(outgoing(day_report))
    assert "s3cret-token" not in str(away.value)


async def test_what_a_webhook_failed_with_is_on_record_without_secrets(
    day: Ledger, tmp_path: Path
) -> None:
    async with listener([503]) as (url, received):
        clock = Wheel(AFTER)
        work = reporting(day, tmp_path, Webhook(SecretStr(url), SECRET), now=clock)
        await work.compile(PERIOD)
        assert (await stored(day))["sending"]["webhook"]["error"] == "webhook: answered 503"
        clock.at += HOUR
        await work.send_due()
        assert len(received) == 2
    everything = repr(await day._database["reports"].find().to_list())
    assert "s3cret-token" not in everything
    assert "whsec" not in everything
