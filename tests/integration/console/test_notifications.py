"""What users are told of: once an event, with a reminder and an all-clear, in their way and at their hours;
and no secret of theirs is shown again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest

from app.console.notifications.detection import Detection
from app.console.notifications.telling import On, Telling
from app.console.security.roles import Role
from app.console.security.sealing import Sealing
from app.console.store.tables import NotificationSettings
from app.core.clock import utc_now
from app.core.events import Event, Found
from app.notifications.notification import Form
from app.notifications.notify import Notifying
from app.operations.by import By
from app.operations.pause import pause, resume
from app.runtime.senders import conditions_of
from tests.support.console import Consoled, cheap_passwords, console_config, running_console
from tests.support.harmless import assert_harmless
from tests.support.hooks import listener
from tests.support.hostile import SCRIPTS
from tests.support.ledger import claim, failed, loaded, log_batch
from tests.support.mailbox import Mailbox, mailbox

SETTINGS = "/api/v1/notifications/settings"
TOKEN = "s3cret-token"  # noqa: S105 - of the listener's URL


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = utc_now()

    def __call__(self) -> datetime:
        """What it shows."""
        return self.at

    def pass_by(self, **length: float) -> None:
        """Move it."""
        self.at += timedelta(**length)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as opened:
        yield opened


@pytest.fixture
async def mailing(
    tmp_path: Path,
    mongo_database_url: str,
    clean_redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    box: Mailbox,
) -> AsyncIterator[Consoled]:
    """A console of an installation that has a mail server, and does not look for events itself."""
    monkeypatch.setattr("app.console.services.Passwords", cheap_passwords)
    configured = console_config(
        tmp_path,
        mongo_database_url,
        clean_redis_url,
        smtp_host="127.0.0.1",
        smtp_port=box.port,
        smtp_security="none",
        report_mail_from="rowrelay@example.org",
        report_mail_to="ops@example.org",
    )
    async with running_console(configured) as running:
        yield running


def _telling(console: Consoled, time: Time) -> Telling:
    """As the console's own, by a clock that the test moves."""
    given = console.services
    ledger, broker = given.operator.ledger, given.operator.broker
    conditions = conditions_of(given.loaded, ledger, broker)
    remind = timedelta(hours=4)
    notifying = Notifying(
        ledger, conditions, [], Form.JSON, remind=remind, zone=ZoneInfo("UTC"), now=time
    )
    detection = Detection(ledger, notifying, time)
    settings = given.loaded.settings
    return Telling(given.store, ledger, conditions, detection, settings, given.sealing, time)


async def _set(client: httpx.AsyncClient, **change: object) -> httpx.Response:
    read = await client.get(SETTINGS)
    given = {"enabled": True, "events": ["feed-paused"]} | change
    return await client.put(SETTINGS, json=given, headers={"If-Match": read.headers["etag"]})


async def _mailed(client: httpx.AsyncClient, **change: object) -> httpx.Response:
    read = await client.get("/api/v1/users/me")
    headers = {"If-Match": read.headers["etag"]}
    profile = {"email": "vy@example.org", "time_zone": "Asia/Ho_Chi_Minh"}
    assert (
        await client.patch("/api/v1/users/me", json=profile, headers=headers)
    ).status_code == 200
    return await _set(client, **change)


async def _pause(console: Consoled) -> None:
    await pause(console.services.operator.ledger, "orders", By("mai", "the partner asked for it"))


async def _resume(console: Consoled) -> None:
    await resume(console.services.operator.ledger, "orders", By("mai", "they are back"))


def _on_disk(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("console.db*"))


def _kinds(received: list[tuple[dict[str, str], bytes]]) -> list[str]:
    return [orjson.loads(body)["message"] for _, body in received]


async def test_a_webhook_is_told_once_reminded_and_given_the_all_clear(
    console: Consoled, time: Time
) -> None:
    admin, telling = await console.logged_in(Role.ADMIN), _telling(console, time)
    async with listener([]) as (url, received):
        changed = await _set(admin, channel="webhook", webhook_url=url, remind_seconds=3600)
        assert changed.status_code == 200, changed.text
        await telling.tell()
        assert received == []
        await _pause(console)
        for _ in range(3):
            time.pass_by(seconds=30)
            await telling.tell()
        assert _kinds(received) == ["began"]
        assert orjson.loads(received[0][1])["subject"] == "orders"
        for _ in range(2):
            time.pass_by(minutes=61)
            await telling.tell()
        assert _kinds(received) == ["began", "reminder", "reminder"]
        await _resume(console)
        for _ in range(10):
            time.pass_by(minutes=1)
            await telling.tell()
        assert _kinds(received) == ["began", "reminder", "reminder", "over"]
        await _pause(console)
        time.pass_by(seconds=30)
        await telling.tell()
        assert _kinds(received)[4:] == ["began"]
        assert len({head["webhook-id"] for head, _ in received}) == 5


async def test_mail_goes_to_the_profile_s_address_in_the_user_s_time_zone(
    mailing: Consoled, box: Mailbox, time: Time
) -> None:
    viewer = await mailing.logged_in(Role.VIEWER)
    assert (await _mailed(viewer)).status_code == 200
    await _pause(mailing)
    assert await _telling(mailing, time).tell() == 1
    assert box.recipients == [["vy@example.org"]]
    assert "orders" in box.messages[0]["Subject"]
    assert "(Asia/Ho_Chi_Minh)" in box.messages[0].get_content()


async def test_in_quiet_hours_nothing_is_sent_and_afterwards_what_is_still_on(
    mailing: Consoled, box: Mailbox, time: Time
) -> None:
    viewer = await mailing.logged_in(Role.VIEWER)
    zone = ZoneInfo("Asia/Ho_Chi_Minh")
    clock = time.at.astimezone(zone)
    quiet = {
        "quiet_from": f"{clock - timedelta(hours=1):%H:%M}",
        "quiet_until": f"{clock + timedelta(hours=2):%H:%M}",
    }
    assert (await _mailed(viewer, **quiet)).status_code == 200
    telling = _telling(mailing, time)
    await _pause(mailing)
    for _ in range(2):
        assert await telling.tell() == 0
        time.pass_by(minutes=1)
    await _resume(mailing)
    for _ in range(6):
        assert await telling.tell() == 0
        time.pass_by(minutes=1)
    await _pause(mailing)
    assert await telling.tell() == 0
    time.pass_by(hours=2, minutes=5)
    assert await telling.tell() == 1
    assert len(box.messages) == 1
    assert "is paused" in box.messages[0]["Subject"]


async def test_each_user_has_limits_of_their_own(
    mailing: Consoled, box: Mailbox, time: Time
) -> None:
    ledger = mailing.services.operator.ledger
    batch = await log_batch(ledger, 1, 2, 3)
    claimed = await claim(ledger, batch)
    found = await loaded(ledger, claimed)
    await ledger.deliveries.fail(claimed, [failed(one, None) for one in found.values()], time())
    patient = await mailing.logged_in(Role.VIEWER, "patient")
    hasty = await mailing.logged_in(Role.VIEWER, "hasty")
    events = ["dead letters"]
    assert (await _mailed(patient, events=events, dead_above=3)).status_code == 200
    assert (await _mailed(hasty, events=events, dead_above=2)).status_code == 200
    assert await _telling(mailing, time).tell() == 1
    text = box.messages[0].get_content()
    assert "3 are not acknowledged; your setting allows 2" in text


async def test_a_message_that_is_not_taken_is_tried_again_under_the_same_id(
    console: Consoled, time: Time
) -> None:
    admin, telling = await console.logged_in(Role.ADMIN), _telling(console, time)
    async with listener([500, 302]) as (url, received):
        await _set(admin, channel="webhook", webhook_url=url)
        await _pause(console)
        assert await telling.tell() == 0
        assert await telling.tell() == 0
        assert len(received) == 1, "not before a minute has passed"
        time.pass_by(seconds=61)
        assert await telling.tell() == 0
        time.pass_by(seconds=121)
        assert await telling.tell() == 1
        assert len(received) == 3
        assert len({head["webhook-id"] for head, _ in received}) == 1


async def test_of_two_consoles_one_tells(console: Consoled, time: Time) -> None:
    admin = await console.logged_in(Role.ADMIN)
    async with listener([]) as (url, received):
        await _set(admin, channel="webhook", webhook_url=url)
        await _pause(console)
        consoles = [_telling(console, time) for _ in range(4)]
        taken = await asyncio.gather(*(one.tell() for one in consoles))
        assert sum(taken) == 1
        assert _kinds(received) == ["began"]


async def test_what_is_not_chosen_is_not_told(console: Consoled, time: Time) -> None:
    admin, telling = await console.logged_in(Role.ADMIN), _telling(console, time)
    async with listener([]) as (url, received):
        hook = {"channel": "webhook", "webhook_url": url}
        await _pause(console)
        changes: tuple[dict[str, object], ...] = (
            {"events": []},
            {"feeds": ["others"]},
            {"enabled": False},
        )
        for change in changes:
            assert (await _set(admin, **hook | change)).status_code == 200
            assert await telling.tell() == 0
        await _set(admin, **hook | {"feeds": ["orders"]})
        assert await telling.tell() == 1
        await _set(admin, **hook | {"events": ["no progress"]})
        time.pass_by(hours=9)
        assert await telling.tell() == 0
        assert len(received) == 1


async def test_the_console_looks_for_events_only_where_nobody_else_does(
    console: Consoled, time: Time
) -> None:
    ledger = console.services.operator.ledger
    worker, mine = Time(), _telling(console, time)
    worker.at = time.at
    theirs = _telling(console, worker)._detection._notifying
    detection = mine._detection
    assert await detection.check(), "nobody ever did"
    time.pass_by(seconds=30)
    assert await detection.check(), "nobody did in between"
    worker.at = time.at + timedelta(seconds=20)
    assert await theirs.check_if_due()
    time.pass_by(seconds=40)
    assert not await detection.check(), "a worker did"
    time.pass_by(minutes=3)
    assert not await detection.check(), "beat and workers stand in first"
    time.pass_by(minutes=2)
    assert await detection.check()
    assert await ledger.notifications.looked_at() is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379/",
        "http://localhost/hook",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.8/hook",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0.0.0.0/",
    ],
)
async def test_a_webhook_of_who_is_no_admin_leads_out_of_the_network(
    console: Consoled, url: str
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    refused = await _set(viewer, channel="webhook", webhook_url=url)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "body.webhook_url")
    assert not (await viewer.get(SETTINGS)).json()["webhook_set"]


async def test_a_webhook_into_the_network_ends_with_the_role_that_may_set_it(
    console: Consoled, time: Time
) -> None:
    await console.logged_in(Role.ADMIN)
    other = await console.logged_in(Role.ADMIN, "other")
    async with listener([]) as (url, received):
        assert (await _set(other, channel="webhook", webhook_url=url)).status_code == 200
        refused = await _set(other, channel="webhook", webhook_url="http://169.254.169.254/")
        assert refused.status_code == 422
        admin = await console.logged_in(Role.ADMIN)
        address = f"/api/v1/users/{console.ids['other']}"
        headers = {"If-Match": (await admin.get(address)).headers["etag"]}
        await admin.patch(address, json={"role": "viewer"}, headers=headers)
        await _pause(console)
        assert await _telling(console, time).tell() == 0
        again = await console.logged_in(Role.VIEWER, "other")
        tested = (await again.post(f"{SETTINGS}/test")).json()
        assert tested["taken"] is False
        assert "inside the network" in tested["error"]
        assert received == []


async def test_a_test_message_goes_the_real_way_and_says_what_came_of_it(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.notifications.service.TEST_APART", timedelta())
    admin = await console.logged_in(Role.ADMIN)
    assert (await admin.post(f"{SETTINGS}/test")).status_code == 422, "no mail address"
    async with listener([403]) as (url, received):
        await _set(admin, channel="webhook", webhook_url=url, webhook_format="slack")
        refused = (await admin.post(f"{SETTINGS}/test")).json()
        assert (refused["taken"], "403" in refused["error"]) == (False, True)
        assert (await admin.post(f"{SETTINGS}/test")).json()["taken"] is True
        assert "asked for this message" in orjson.loads(received[1][1])["text"]
    gone = await admin.post("/notifications/test")
    assert "was not taken" in gone.text
    assert TOKEN not in gone.text


async def test_two_tests_in_a_row_are_one_too_many(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    async with listener([]) as (url, received):
        await _set(admin, channel="webhook", webhook_url=url)
        statuses = [(await admin.post(f"{SETTINGS}/test")).status_code for _ in range(2)]
        assert (statuses, len(received)) == ([200, 429], 1)


async def test_the_webhook_s_url_is_never_shown_again_nor_kept_as_it_is(
    console: Consoled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    async with listener([]) as (url, received):
        first = await _set(admin, channel="webhook", webhook_url=url)
        kept = await _set(admin, channel="webhook", dead_above=7)
        assert kept.json()["webhook_set"] is True
        assert (await admin.post(f"{SETTINGS}/test")).json()["taken"] is True
        assert len(received) == 1
    page = await admin.get("/notifications")
    audit = await admin.get("/api/v1/audit", params={"action": "notifications"})
    assert len(audit.json()["items"]) == 3
    for answer in (first, kept, page, audit, await admin.get(SETTINGS)):
        assert TOKEN not in answer.text
        assert "/hook" not in answer.text
    on_disk = _on_disk(tmp_path)
    assert b"sealed:" in on_disk
    assert TOKEN.encode() not in on_disk
    assert TOKEN not in "".join(capsys.readouterr())
    removed = await _set(admin, enabled=False, webhook_url="")
    assert removed.json()["webhook_set"] is False


async def test_a_webhook_that_was_kept_as_it_is_gets_sealed_and_takes_the_secret_to_be_read(
    console: Consoled,
) -> None:
    given, admin = console.services, await console.logged_in(Role.ADMIN)
    async with listener([]) as (url, received):
        await _set(admin, channel="webhook", webhook_url=url)
        async with given.store.writing() as session:
            kept = await session.get_one(NotificationSettings, console.ids["admin"])
            kept.webhook_url = url  # as an older version did
        assert [await given.notifications.seal_all() for _ in range(2)] == [1, 0]
        assert (await admin.post(f"{SETTINGS}/test")).json()["taken"] is True
        assert len(received) == 1
    given.notifications._sealing = Sealing("another secret")
    unread = await admin.post(f"{SETTINGS}/test")
    assert (unread.status_code, "enter it again" in unread.text) == (422, True)


@pytest.mark.parametrize(
    "change",
    [
        {"quiet_from": "22:00"},
        {"quiet_from": "24:00", "quiet_until": "06:00"},
        {"events": ["feed-hungry"]},
        {"dead_above": -1},
        {"remind_seconds": 1},
        {"webhook_url": "ftp://example.org/"},
        {"webhook_url": "javascript:alert(1)"},
        {"channel": "mail"},
        {"channel": "webhook"},
        {"channel": "pigeon"},
    ],
    ids=str,
)
async def test_settings_that_make_no_sense_are_refused(
    console: Consoled, change: Mapping[str, object]
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert (await _set(viewer, **change)).status_code == 422


async def test_settings_of_an_older_version_are_refused(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    headers = {"If-Match": (await viewer.get(SETTINGS)).headers["etag"]}
    given = {"enabled": False, "dead_above": 3}
    assert (await viewer.put(SETTINGS, json=given)).status_code == 428
    assert (await viewer.put(SETTINGS, json=given, headers=headers)).status_code == 200
    assert (await viewer.put(SETTINGS, json=given, headers=headers)).status_code == 412


async def test_the_page_takes_the_settings_and_lists_what_is_on(
    console: Consoled, time: Time
) -> None:
    admin = await console.logged_in(Role.ADMIN)
    await _pause(console)
    form = {
        "version": "1", "enabled": "on", "channel": "webhook", "webhook_format": "teams",
        "events": ["feed-paused", "breaker-open"], "feeds": "orders, invoices", "dead_above": "5",
        "oldest_minutes": "90", "remind_minutes": "60", "quiet_from": "22:00", "quiet_until": "06:30",
    }  # fmt: skip
    lacking = await admin.post("/notifications", data=form)
    assert (lacking.status_code, 'value="orders, invoices"' in lacking.text) == (422, True)
    async with listener([]) as (url, _):
        taken = await admin.post("/notifications", data=form | {"webhook_url": url})
        assert taken.status_code == 303
        settings = (await admin.get(SETTINGS)).json()
        assert settings["feeds"] == ["invoices", "orders"]
        assert (settings["oldest_above_seconds"], settings["quiet_until"]) == (5400, "06:30")
        stale = await admin.post("/notifications", data=form)
        assert stale.status_code == 412
        await _telling(console, time)._detection.check()
        assert "orders: the feed is paused" in (await admin.get("/notifications")).text
        listed = (await admin.get("/api/v1/notifications")).json()["items"]
        paused = [one for one in listed if one["event"] == "feed-paused"]
        assert [(one["subject"], one["over_at"]) for one in paused] == [("orders", None)]
    bad = await admin.post("/notifications", data=form | {"oldest_minutes": "soon"})
    assert (bad.status_code, 'value="soon"' in bad.text) == (422, True)


async def test_hostile_text_is_shown_as_text(console: Consoled) -> None:
    admin = await console.logged_in(Role.ADMIN)
    names = (
        "channel", "webhook_format", "feeds", "dead_above", "oldest_minutes", "remind_minutes",
        "quiet_from", "quiet_until", "webhook_url", "events",
    )  # fmt: skip
    for text in SCRIPTS:
        form = dict.fromkeys(names, text) | {"version": "1"}
        assert_harmless(await admin.post("/notifications", data=form), shows=True)
    ledger = console.services.operator.ledger
    await pause(ledger, "orders", By(SCRIPTS[0], SCRIPTS[1]))
    await _telling(console, Time())._detection.check()
    assert_harmless(await admin.get("/notifications"))


TIMEOUT = 0.2


FEEDS = 20


async def test_who_cannot_be_told_of_many_events_keeps_nobody_else_waiting(
    console: Consoled, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, hears = await console.logged_in(Role.ADMIN), await console.logged_in(Role.OPERATOR)
    for client in (deaf, hears):
        given = {"channel": "webhook", "webhook_url": "https://1.1.1.1/x"}
        changed = await _set(client, **given)
        assert changed.status_code == 200, changed.text
    telling: Any = _telling(console, time)
    told: list[tuple[str, str]] = []
    on = [On(Found(Event.FEED_PAUSED, f"feed-{n:02}", "paused"), time.at) for n in range(FEEDS)]

    async def answered(_: Telling, kept: Any, row: Any) -> str | None:
        told.append((kept.user.role, row.subject))
        if kept.user.role != Role.ADMIN.value:
            return None
        await asyncio.sleep(TIMEOUT)
        return "webhook: no answer within 30 s"

    async def all_on(*_: object) -> list[On]:
        return list(on)

    monkeypatch.setattr(Telling, "_tried", answered)
    monkeypatch.setattr(Telling, "_on", all_on)
    begun = asyncio.get_running_loop().time()
    assert await telling.tell() == FEEDS
    assert asyncio.get_running_loop().time() - begun < 0.5 * FEEDS * TIMEOUT
    on.append(On(Found(Event.FEED_PAUSED, "new", "paused"), time.at))
    time.pass_by(seconds=30)
    await telling.tell()
    assert ("operator", "new") in told
    for _ in range(FEEDS + 5):  # and all that is owed is tried in time
        time.pass_by(seconds=30)
        await telling.tell()
    assert {subject for role, subject in told if role == "admin"} == {
        one.found.subject for one in on
    }
