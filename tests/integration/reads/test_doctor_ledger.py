"""`doctor` says of each way in which a ledger can be wrong which one it is, and what to do, on one
line.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

import config
from app.core.clock import machine_now
from app.reads.doctor.check import Check
from app.reads.doctor.ledger import check_ledger
from app.runtime.reader import open_reader
from app.source.findings import Level
from app.testbed.embedded.replica_set import Member
from tests.support.mongods import PASSWORD, Client, hello, lone, replica_set, url_of
from tests.support.wait import until


async def _checks(url: str, patience: timedelta = timedelta(seconds=5)) -> dict[str, Check]:
    settings = config.Settings(_env_file=None, mongo_url=SecretStr(url), connect_timeout=patience)
    async with open_reader(config.Config(settings, {})) as reader:
        checks = {check.name: check for check in await check_ledger(reader, patience)}
    for check in checks.values():
        assert "\n" not in check.detail
        assert "clusterTime" not in check.detail
        assert PASSWORD not in check.detail
    return checks


async def _failure(url: str, patience: timedelta = timedelta(seconds=5)) -> tuple[str, str]:
    """The one check that failed, and what it says."""
    failed = [check for check in (await _checks(url, patience)).values() if not check.ok]
    assert len(failed) == 1
    return failed[0].name, failed[0].detail


@pytest.fixture(scope="module")
def three() -> Iterator[list[Member]]:
    with replica_set(3) as members:
        yield members


@pytest.fixture(scope="module")
def guarded() -> Iterator[Member]:
    """A set of one that wants a login: `writer` and `reader` have one."""
    with replica_set(1, login=True) as (member,):
        with Client(member.url) as client:
            for user, role in (("writer", "readWrite"), ("reader", "read")):
                client.admin.command(
                    "createUser", user, pwd=PASSWORD, roles=[{"role": role, "db": "ledger"}]
                )
        yield member


async def test_a_set_with_a_user_that_may_write_is_well(guarded: Member) -> None:
    checks = await _checks(url_of([guarded], f"writer:{PASSWORD}@"))
    assert {check.level for check in checks.values()} == {Level.OK}
    assert checks["ledger (MONGO_URL)"].detail.endswith("primary of replica set rs0, 1 member")
    assert list(checks) == [
        "ledger (MONGO_URL)",
        "ledger: writing",
        "ledger: indexes",
        "ledger: clock",
    ]


async def test_nothing_of_what_was_written_stays(guarded: Member) -> None:
    await _checks(url_of([guarded], f"writer:{PASSWORD}@"))
    with Client(guarded.url) as client:
        assert client["ledger"]["doctor"].count_documents({}) == 0


async def test_no_login(guarded: Member) -> None:
    name, said = await _failure(url_of([guarded]))
    assert name == "ledger: writing"
    assert "the server wants a login: put user and password into MONGO_URL" in said


async def test_a_wrong_login(guarded: Member) -> None:
    name, said = await _failure(url_of([guarded], "writer:not-it@"))
    assert (name, said) == (
        "ledger (MONGO_URL)",
        "ledger: Authentication failed; check user, password and authSource in MONGO_URL",
    )


async def test_no_right_to_write(guarded: Member) -> None:
    name, said = await _failure(url_of([guarded], f"reader:{PASSWORD}@"))
    assert name == "ledger: writing"
    assert said == (
        "ledger: not authorized on ledger to execute command insert; "
        "grant readWrite on the ledger's database to the user in MONGO_URL"
    )


async def test_no_replica_set() -> None:
    with lone(in_set=False) as member:
        checks = await _checks(member.url)
        assert checks["ledger: replica set"].level is Level.WARNING
        assert "make it a replica set" in checks["ledger: replica set"].detail
        assert checks["ledger: writing"].ok
        name, said = await _failure(url_of([member]), timedelta(seconds=1))
    assert name == "ledger (MONGO_URL)"
    assert "mend replicaSet in MONGO_URL" in said


async def test_a_set_that_was_never_made() -> None:
    with lone(in_set=True) as member:
        name, said = await _failure(member.url)
    assert name == "ledger (MONGO_URL)"
    assert "run rs.initiate()" in said


async def test_a_secondary_reached_directly(three: list[Member]) -> None:
    second = next(member for member in three if hello(member)["secondary"])
    name, said = await _failure(second.url)
    assert name == "ledger (MONGO_URL)"
    assert said == (
        f"ledger: {second.address} is a secondary of replica set rs0; Rowrelay reads and writes through the primary: "
        "name all members in MONGO_URL and leave directConnection out"
    )


async def test_a_primary_reached_directly_is_not_followed_at_a_failover(
    three: list[Member],
) -> None:
    first = next(member for member in three if hello(member)["isWritablePrimary"])
    checks = await _checks(first.url)
    assert checks["ledger: replica set"].level is Level.WARNING
    assert "directConnection=true" in checks["ledger: replica set"].detail
    checks = await _checks(url_of(three))
    assert {check.level for check in checks.values()} == {Level.OK}
    assert checks["ledger (MONGO_URL)"].detail.endswith("primary of replica set rs0, 3 members")


async def test_a_server_with_another_clock(
    three: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "app.ledger.examine.machine_now", lambda: machine_now() - timedelta(minutes=2)
    )
    checks = await _checks(url_of(three))
    assert checks["ledger: clock"].level is Level.WARNING
    assert "ahead of this machine's; run NTP on both" in checks["ledger: clock"].detail


async def test_a_set_that_lost_its_majority(three: list[Member]) -> None:
    """First the primary still stands, and nobody follows; then it steps down."""
    first = next(member for member in three if hello(member)["isWritablePrimary"])
    others = [member for member in three if member is not first]
    try:
        for member in others:
            member.process.signal(signal.SIGSTOP)
        name, said = await _failure(url_of(three), timedelta(seconds=1))
        assert name in {"ledger: writing", "ledger (MONGO_URL)"}
        assert "majority" in said
        for member in others:
            member.kill()
        await until(
            lambda: not hello(first)["isWritablePrimary"], 30, message="the primary to step down"
        )
        name, said = await _failure(url_of(three), timedelta(seconds=2))
    finally:
        for member in others:
            member.kill()
            member.restart()
    assert name == "ledger (MONGO_URL)"
    assert said.startswith("ledger: replica set rs0 has no primary: 2 of 3 members do not answer: ")
    assert all(member.address in said for member in others)
