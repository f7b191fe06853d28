"""What is wrong is told once, with reminders and an all-clear; and what nobody takes is tried until
somebody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
import redis
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier

from app.broker.depths import Broker
from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.errors import BrokerUnavailable
from app.core.events import Event, Found
from app.core.period import Kind, period_of
from app.core.rows import SourceRow
from app.core.states import State
from app.jobs.schedule import RECONCILE
from app.ledger import Ledger
from app.ledger.client import Document
from app.ledger.heartbeats import Heartbeat, Role
from app.ledger.outbox import Sending
from app.ledger.selection import Selection
from app.ledger.stamp import Stamp
from app.ledger.stats import Gauge
from app.ledger.ticks import StepDone, TickState
from app.monitoring.health import Bounds
from app.notifications.conditions import Conditions, Limits, Seen, breakers_of
from app.notifications.notification import Form
from app.notifications.notify import HOLD, KEPT, OVER_AFTER, PATIENCE, Notifying
from app.sending.mail import Mail, MailServer
from app.sending.outgoing import Outgoing, Sender
from app.sending.webhook import Webhook
from tests.support.doubles import Post, Wheel
from tests.support.feeds import make_feed
from tests.support.hooks import listener
from tests.support.ledger import log_batch
from tests.support.mailbox import mailbox

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
REMIND = timedelta(hours=4)
FEED = make_feed("orders")
BOUNDS = Bounds(timedelta(seconds=45), timedelta(seconds=1), timedelta(seconds=30))
SECRET = SecretStr("whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0")


async def all_closed() -> Mapping[str, bool]:
    return {}


def conditions(ledger: Ledger, dead: int = 0) -> Conditions:
    return Conditions(ledger, {"orders": FEED}, Limits(dead, HOUR), lambda: BOUNDS, all_closed)


def notifying(ledger: Ledger, *senders: Sender, now: Wheel, form: Form = Form.JSON) -> Notifying:
    """As a worker has it."""
    return Notifying(
        ledger,
        conditions(ledger),
        senders,
        form,
        remind=REMIND,
        zone=ZoneInfo("Europe/Berlin"),
        now=now,
    )


async def be_well(ledger: Ledger, at: datetime) -> None:
    """A worker and a beat that get on, and a feed that was polled."""
    for role, name in ((Role.WORKER, "celery@here"), (Role.BEAT, "beat@here")):
        await ledger.heartbeats.put(Heartbeat(role, name, "here", 1, at, at, broker_seconds=60.0))
    await ledger.cursors.note_poll("orders", at)


async def look(
    work: Notifying, ledger: Ledger, clock: Wheel, *, after: timedelta = timedelta()
) -> None:
    """Look, so much later; in between all is as it was."""
    clock.at += after
    await be_well(ledger, clock.at)
    await work.check()


async def events(ledger: Ledger, clock: Wheel, dead: int = 0) -> dict[str, str]:
    """What is on, but for processes: event → what is said of it."""
    seen = await conditions(ledger, dead=dead).read(clock.at)
    return {
        found.event.value: found.said for found in seen.found if found.event is not Event.NONE_RUNS
    }


async def stored(ledger: Ledger) -> Document:
    (only,) = await ledger.notifications.kept()
    return only


# --- once, again, over


async def test_an_event_is_told_once_however_often_it_is_found(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    await look(work, ledger, clock)
    assert post.sent == [], "all is well"
    await ledger.pauses.pause(
        "orders", "410 Gone: the endpoint is gone; check partner.url (delivery orders:Miller)"
    )
    for _ in range(5):
        await look(work, ledger, clock, after=30 * SECOND)
    assert post.subjects == ["Rowrelay: orders: the feed is paused"]
    text = post.sent[0].text()
    assert "Why: 410 Gone: the endpoint is gone; check partner.url\n" in text
    assert "2026-11-21 13:00 (Europe/Berlin)" in text
    assert "python -m app feeds resume orders" in text


async def test_an_event_that_stays_is_told_again_after_a_while_and_once_when_it_is_over(
    ledger: Ledger,
) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    await ledger.pauses.pause("orders", "by an operator")
    for hours in range(9):
        await look(work, ledger, clock, after=HOUR if hours else timedelta())
    assert post.subjects == [
        "Rowrelay: orders: the feed is paused",
        "Rowrelay: Still: orders: the feed is paused",
        "Rowrelay: Still: orders: the feed is paused",
    ]
    await ledger.pauses.resume("orders")
    await look(work, ledger, clock, after=OVER_AFTER)
    assert len(post.sent) == 3, "it may come back at once"
    for _ in range(3):
        await look(work, ledger, clock, after=2 * SECOND)
    assert post.subjects[3:] == ["Rowrelay: Over: orders: the feed is paused"]
    assert "for 8 h, until 2026-11-21 21:03 (Europe/Berlin)" in post.sent[3].text()
    await look(work, ledger, clock, after=KEPT + HOUR)
    assert await ledger.notifications.kept() == []


async def test_what_comes_and_goes_is_told_once(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    for _ in range(6):
        await ledger.pauses.pause("orders", "by an operator")
        await look(work, ledger, clock, after=30 * SECOND)
        await ledger.pauses.resume("orders")
        await look(work, ledger, clock, after=30 * SECOND)
    assert len(post.sent) == 1


async def test_an_event_that_begins_anew_is_told_anew(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    for _ in range(2):
        await ledger.pauses.pause("orders", "by an operator")
        await look(work, ledger, clock, after=HOUR)
        await ledger.pauses.resume("orders")
        await look(work, ledger, clock, after=HOUR)
    began, over = (
        "Rowrelay: orders: the feed is paused",
        "Rowrelay: Over: orders: the feed is paused",
    )
    assert post.subjects == [began, over, began, over]
    assert len({outgoing.id for outgoing in post.sent}) == 4


async def test_what_lasts_for_a_moment_is_no_news_where_it_need_not_be(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    await ledger.cursors.note_failure("orders", clock.at, "source: no answer", clock.at + HOUR)
    await work.check()
    clock.at += HOLD[Event.NONE_RUNS]
    await be_well(ledger, clock.at)
    await work.check()
    assert post.sent == []
    await look(work, ledger, clock, after=2 * OVER_AFTER)
    assert post.sent == [], "nobody is told that is over what nobody was told of"
    await ledger.cursors.note_failure("orders", clock.at, "source: no answer", clock.at + HOUR)
    for _ in range(2):
        await work.check()
        clock.at += HOLD[Event.FEED_NOT_READ]
        await ledger.heartbeats.put(
            Heartbeat(Role.WORKER, "celery@here", "here", 1, clock.at, clock.at)
        )
        await ledger.heartbeats.put(
            Heartbeat(Role.BEAT, "beat@here", "here", 1, clock.at, clock.at)
        )
    assert post.subjects == ["Rowrelay: orders: new rows of the feed are not read"]


@pytest.mark.parametrize("ahead", [2 * HOUR, 100 * HOUR])
async def test_moments_that_a_wrong_clock_wrote_silence_nothing(
    ledger: Ledger, ahead: timedelta
) -> None:
    clock, post = Wheel(NOW), Post(failures=1)
    work = notifying(ledger, post, now=clock)
    await ledger.pauses.pause("orders", "by an operator")
    clock.at += ahead
    await be_well(ledger, clock.at)
    assert await work.check_if_due()
    clock.at = NOW
    await be_well(ledger, clock.at)
    assert await work.check_if_due()
    await look(work, ledger, clock, after=REMIND)
    assert post.subjects[0].endswith("orders: the feed is paused")
    assert any(subject.startswith("Rowrelay: Still: ") for subject in post.subjects)


# --- two workers, and a death between any two steps


async def test_workers_that_look_at_once_tell_it_once(
    ledger: Ledger, mongo_database_url: str
) -> None:
    clock, post = Wheel(NOW), Post()
    others = [Ledger.at(mongo_database_url, timedelta(seconds=5)) for _ in range(3)]
    works = [notifying(one, post, now=clock) for one in (ledger, *others)]
    await be_well(ledger, clock.at)
    await ledger.pauses.pause("orders", "by an operator")
    try:
        for expected in (1, 2):
            await asyncio.gather(*(work.check() for work in works))
            assert len(post.sent) == expected
            clock.at += REMIND
            await be_well(ledger, clock.at)
        await ledger.pauses.resume("orders")
        clock.at += HOUR
        await be_well(ledger, clock.at)
        await asyncio.gather(*(work.check() for work in works))
        assert post.subjects[2:] == ["Rowrelay: Over: orders: the feed is paused"]
    finally:
        for other in others:
            await other.close()


async def test_one_of_those_whose_turn_it_is_looks(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    works = [notifying(ledger, now=clock) for _ in range(4)]
    assert sum(await asyncio.gather(*(work.check_if_due() for work in works))) == 1
    clock.at += 30 * SECOND
    assert sum(await asyncio.gather(*(work.check_if_due() for work in works))) == 1
    assert not await works[0].check_if_due(timedelta(minutes=2)), (
        "whoever stands in leaves it to those who look"
    )


class Dying(BaseException):
    """The process ends here."""


async def test_a_worker_that_dies_while_it_tells_is_followed_by_another(ledger: Ledger) -> None:
    class Deadly(Post):
        async def send(self, outgoing: Outgoing) -> None:
            await super().send(outgoing)
            raise Dying

    clock, deadly, post = Wheel(NOW), Deadly(), Post()
    await be_well(ledger, clock.at)
    await ledger.pauses.pause("orders", "by an operator")
    with pytest.raises(Dying):
        await notifying(ledger, deadly, now=clock).check()
    other = notifying(ledger, post, now=clock)
    await look(other, ledger, clock, after=30 * SECOND)
    assert post.sent == [], "the first may still be at it"
    await look(other, ledger, clock, after=PATIENCE.claimed_for)
    assert [outgoing.id for outgoing in post.sent] == [outgoing.id for outgoing in deadly.sent], (
        "twice, under one id"
    )


async def test_a_worker_that_dies_between_any_two_steps_leaves_what_another_goes_on_with(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, post = Wheel(NOW), Post()
    await be_well(ledger, clock.at)
    await ledger.pauses.pause("orders", "by an operator")
    for step in ("say", "owed", "claim"):

        async def dies(*_: object, **__: object) -> None:
            raise Dying

        with monkeypatch.context() as patched:
            patched.setattr(ledger.notifications, step, dies)
            with pytest.raises(Dying):
                await notifying(ledger, post, now=clock).check()
    await notifying(ledger, post, now=clock).check()
    assert post.subjects == ["Rowrelay: orders: the feed is paused"]


# --- ways out


async def test_a_webhook_that_is_down_loses_nothing(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    async with listener([503] * 4) as (url, received):
        work = notifying(ledger, post, Webhook(SecretStr(url), SECRET), now=clock)
        await ledger.pauses.pause("orders", "by an operator")
        for _ in range(4):
            await look(work, ledger, clock, after=PATIENCE.longest_wait)
        assert len(post.sent) == 1, "another way waits for nobody"
        failed = (await stored(ledger))["sending"]["webhook"]
        assert (failed["state"], failed["error"]) == (Sending.OWED, "webhook: answered 503")
        await look(work, ledger, clock, after=PATIENCE.longest_wait)
        await look(work, ledger, clock, after=PATIENCE.longest_wait)
    assert len(received) == 5
    assert len({headers["webhook-id"] for headers, _ in received}) == 1
    assert (await stored(ledger))["sending"]["webhook"]["state"] == Sending.SENT
    headers, body = received[-1]
    Verifier(SECRET.get_secret_value()).verify(body, headers)
    told = orjson.loads(body)
    assert (told["event"], told["subject"], told["message"]) == ("feed-paused", "orders", "began")
    assert "s3cret-token" not in repr(await ledger._database["notifications"].find().to_list())


async def test_an_event_that_nobody_took_until_it_was_over_is_told_all_the_same(
    ledger: Ledger,
) -> None:
    clock, post = Wheel(NOW), Post(failures=3)
    work = notifying(ledger, post, now=clock)
    await ledger.pauses.pause("orders", "why it was")
    await look(work, ledger, clock)
    await ledger.pauses.resume("orders")
    for _ in range(5):
        await look(work, ledger, clock, after=PATIENCE.longest_wait)
    assert post.subjects == ["Rowrelay: Over: orders: the feed is paused"]
    assert "Why: why it was" in post.sent[0].text()


async def test_a_way_out_that_fails_as_nobody_foresaw_holds_no_other_up(ledger: Ledger) -> None:
    class Broken(Post):
        name = "broken"

        async def send(self, outgoing: Outgoing) -> None:
            raise KeyError(outgoing.text())

    clock, post = Wheel(NOW), Post()
    await ledger.pauses.pause("orders", "by an operator")
    await look(notifying(ledger, Broken(), post, now=clock), ledger, clock)
    assert len(post.sent) == 1
    sending = (await stored(ledger))["sending"]["broken"]
    assert (sending["state"], sending["error"]) == (
        Sending.OWED,
        "broken: KeyError: not foreseen; see sending_failed in the log",
    )


async def test_what_another_version_put_on_record_is_told_and_holds_nothing_up(
    ledger: Ledger,
) -> None:
    clock, post = Wheel(NOW), Post()
    work = notifying(ledger, post, now=clock)
    await ledger.pauses.pause("orders", "by an operator")
    await look(work, ledger, clock)
    changed = {"_id": "on-fire|orders", "event": "on-fire"}
    await ledger._database["notifications"].insert_one((await stored(ledger)) | changed)
    await look(work, ledger, clock, after=HOUR)
    assert post.subjects[1:] == ["Rowrelay: Over: orders: something is wrong"]


async def test_mail_and_webhooks_take_it_in_their_form(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    async with mailbox() as box, listener([]) as (url, received):
        sender = Mail(
            MailServer("127.0.0.1", box.port, "none"),
            "Rowrelay <rowrelay@example.org>",
            ("ops@example.org",),
        )
        await ledger.pauses.pause("orders", "by <b>an</b> & operator")
        for form in Form:
            await ledger._database["notifications"].delete_many({})
            await look(
                notifying(ledger, sender, Webhook(SecretStr(url)), now=clock, form=form),
                ledger,
                clock,
            )
    assert [message["Subject"] for message in box.messages] == [
        "Rowrelay: orders: the feed is paused"
    ] * 3
    assert box.messages[0].get_content().startswith("Rowrelay: orders: the feed is paused")
    assert box.messages[0].get_content_type() == "text/plain", "nothing is attached"
    plain, slack, teams = (orjson.loads(body) for _, body in received)
    assert "by <b>an</b> & operator" in plain["text"]
    assert list(slack) == ["text"]
    assert "by &lt;b&gt;an&lt;/b&gt; &amp; operator" in slack["text"]
    (attached,) = teams["attachments"]
    assert attached["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attached["content"]["body"][0]["text"] == "Rowrelay: orders: the feed is paused"


# --- what is an event


async def test_all_is_well_where_nothing_is_wrong(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    await be_well(ledger, clock.at)
    assert (await conditions(ledger).read(clock.at)).found == ()


async def test_what_is_told_holds_no_value_of_a_row(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    said = (
        'source: cannot convert "Miller", {"iban": "DE12"} of 4711004711 '
        "at https://user:pass@host/x (delivery a:b(c))"
    )
    await ledger.pauses.pause("orders", said)
    paused = (await events(ledger, clock))["feed-paused"]
    await ledger.pauses.resume("orders")
    await ledger.cursors.note_failure("orders", clock.at, said, clock.at + HOUR)
    failed = (await events(ledger, clock))["feed-not-read"]
    for told in (paused, failed):
        assert "cannot convert" in told
        assert not any(word in told for word in ("Miller", "DE12", "4711", "pass", "a:b"))


async def test_dead_letters_count_until_they_are_acknowledged_or_replayed(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    await be_well(ledger, clock.at)
    rows = [SourceRow(str(number), number, "", error="no JSON form") for number in range(5)]
    await ledger.deliveries.log_unreadable("orders", rows, clock.at)
    assert (await events(ledger, clock))[
        "dead-letters"
    ] == "5 are not acknowledged; NOTIFY_DEAD allows 0"
    assert await events(ledger, clock, dead=5) == {}
    assert list(await events(ledger, clock, dead=4)) == ["dead-letters"]
    dead, ids = Selection((State.DEAD,)), [f"orders:{number}" for number in range(5)]
    await ledger.selections.acknowledge(dead, ids[:3], Stamp("me", clock.at), undo=False)
    assert (await events(ledger, clock))[
        "dead-letters"
    ] == "2 are not acknowledged; NOTIFY_DEAD allows 0"
    assert await events(ledger, clock, dead=2) == {}
    await ledger.selections.acknowledge(dead, ids[3:], Stamp("me", clock.at), undo=False)
    assert await events(ledger, clock) == {}


async def test_a_delivery_that_waits_for_too_long_is_told_also_of_a_feed_that_nobody_sends(
    ledger: Ledger,
) -> None:
    clock = Wheel(NOW)
    await be_well(ledger, clock.at)
    waiting = {
        "orders": Gauge(7, NOW - HOUR - SECOND, paused=False),
        "gone": Gauge(1, NOW - HOUR, paused=False),
    }
    await ledger.stats.sample(waiting, NOW)
    seen = await conditions(ledger).read(NOW)
    assert [(found.event, found.subject) for found in seen.found] == [(Event.OLDEST_OPEN, "orders")]
    assert seen.found[0].said == "7 are open, the oldest for 1 h; NOTIFY_OLDEST is 1 h"
    seen = await conditions(ledger).read(NOW + 2 * SECOND)
    assert {found.subject for found in seen.found} == {"orders", "gone"}
    await ledger.stats.sample({feed: Gauge(0, None, paused=False) for feed in waiting}, NOW)
    assert await events(ledger, clock) == {}


async def test_an_open_breaker_is_told_by_redis_and_by_what_was_counted(
    ledger: Ledger, clean_redis_url: str
) -> None:
    clock = Wheel(NOW)
    await be_well(ledger, clock.at)
    broker = Broker(clean_redis_url, timedelta(seconds=5))
    by_redis = Conditions(
        ledger, {"orders": FEED}, Limits(0, HOUR), lambda: BOUNDS, breakers_of(broker, ["orders"])
    )
    try:
        assert (await by_redis.read(NOW)).found == ()
        with redis.Redis.from_url(clean_redis_url) as client:
            later = (client.time()[0] + 60) * 1_000_000
            client.hset(
                "rowrelay:{orders}:clock", mapping={"open": later, "tripped": 1, "generation": 1}
            )
        (found,) = (await by_redis.read(NOW)).found
        assert (found.event, found.subject) == (Event.BREAKER_OPEN, "orders")
    finally:
        await broker.close()
    await ledger.stats.add_opening("orders", NOW, SECOND)
    assert list(await events(ledger, clock)) == ["breaker-open"], "though it is closed again"
    clock.at += timedelta(minutes=5)
    await be_well(ledger, clock.at)
    assert await events(ledger, clock) == {}


async def test_no_breaker_is_taken_for_closed_while_redis_is_away(ledger: Ledger) -> None:
    clock, post, away = Wheel(NOW), Post(), False

    async def breakers() -> Mapping[str, bool]:
        if away:
            raise BrokerUnavailable("broker: connection refused")
        return {"orders": True}

    looked_at = Conditions(ledger, {"orders": FEED}, Limits(0, HOUR), lambda: BOUNDS, breakers)
    work = Notifying(
        ledger, looked_at, [post], Form.JSON, remind=REMIND, zone=ZoneInfo("UTC"), now=clock
    )
    await look(work, ledger, clock)
    away = True
    for _ in range(2):
        await look(work, ledger, clock, after=2 * OVER_AFTER)
    began = "Rowrelay: orders: the circuit breaker is open: next to nothing is sent to the partner"
    assert post.subjects == [began, "Rowrelay: redis: nothing is handed out to workers"]


async def test_a_certificate_that_is_missing_or_differs_is_told(ledger: Ledger) -> None:
    clock = Wheel(NOW)
    await be_well(ledger, clock.at)
    assert await events(ledger, clock) == {}, "no day has ended yet"
    day = period_of(NOW - timedelta(days=1), Kind.DAY, ZoneInfo("UTC"))
    await ledger.ticks.plan(RECONCILE.name, [(day, day.end)])
    assert (await events(ledger, clock))["certificate-missing"].startswith(f"none for {day.name}: ")
    tick = await ledger.ticks.claim((await ledger.ticks.open(RECONCILE.name))[0], "w1", NOW, HOUR)
    assert tick is not None
    await ledger.ticks.note_step(tick, StepDone("invoices", NOW, 1, {}))
    await ledger.ticks.finish(tick, TickState.DONE, NOW, None)
    assert await events(ledger, clock) == {}, "the feed was not there when the day was certified"
    await ledger._database["ticks"].update_one({}, {"$set": {"steps.0.name": "orders"}})
    assert list(await events(ledger, clock)) == ["certificate-missing"]
    certificate = Certificate("orders", NOW, 1, 3, {State.DELIVERED: 3}, begun_at=day.end)
    await ledger.certificates.save(certificate)
    assert await events(ledger, clock) == {}
    shared = Discrepancy(DiscrepancyKind.SHARED_KEY, 2, ("orders:Miller",), "Miller")
    lost = replace(
        certificate, at=NOW + SECOND, source_rows=6, missing=1, missing_ids=("orders:Miller",)
    )
    await ledger.certificates.save(replace(lost, discrepancies=(shared,)))
    differs = await events(ledger, clock)
    assert differs == {
        "certificate-differs": "as of 2026-11-21 12:00 UTC: 1 missing, shared key: 2"
    }


async def test_processes_that_stand_still_or_are_not_there_are_told(ledger: Ledger) -> None:
    await ledger.cursors.note_poll("orders", NOW)
    await ledger.heartbeats.put(
        Heartbeat(Role.WORKER, "celery@here", "here", 1, NOW, NOW - HOUR / 2)
    )
    seen = await conditions(ledger).read(NOW)
    assert [(found.event, found.subject) for found in seen.found] == [
        (Event.NO_PROGRESS, "celery@here"),
        (Event.NONE_RUNS, "beat"),
    ]
    assert seen == Seen(
        (
            Found(Event.NO_PROGRESS, "celery@here", "stands still: no sign of it for 1800 s"),
            seen.found[1],
        )
    )


MINUTE = 60 * SECOND


async def test_that_nobody_samples_what_waits_is_no_all_clear(ledger: Ledger) -> None:
    clock, post = Wheel(NOW), Post()
    work, logged = notifying(ledger, post, now=clock), NOW - 2 * HOUR
    batch = await log_batch(ledger, 1, 2, 3, now=logged)
    await ledger.stats.sample({"orders": Gauge(3, logged, paused=False)}, NOW)
    await look(work, ledger, clock)
    began = post.subjects
    assert [subject for subject in began if "Over" not in subject] == began
    assert len(began) == 1
    for _ in range(60):  # the sweep does nothing: no sample, and nothing is sent
        await look(work, ledger, clock, after=MINUTE)
    assert post.subjects == began, "the three still wait"
    ids = batch.delivery_ids
    moved = await ledger.selections.cancel(
        Selection((State.QUEUED,), ids=tuple(ids)), State.QUEUED, ids, Stamp("me", clock.at)
    )
    assert moved == 3
    for _ in range(10):
        await look(work, ledger, clock, after=MINUTE)
    assert len(post.subjects) == 2
    assert "Over" in post.subjects[1]
