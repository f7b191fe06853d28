"""`rediss://` as it stands in the documents: every client verifies the server, and connects where
it may trust it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import config
from app.broker.depths import Broker
from app.core.errors import BrokerUnavailable
from app.core.redis_url import parse_redis_url
from app.partner.throttle.results import Results
from app.partner.throttle.store import Said, ThrottleStore
from app.reads.doctor.broker import NAME, ask, check_broker
from app.reads.doctor.check import Check
from app.runtime.reader import open_reader
from app.source.findings import Level
from tasks.application import make_application
from tasks.probes import probes
from tests.support.tls_front import Front, tls_front

SAID = Said("f", lease=1, hold=0, results=Results(), in_a_row=0, bucket=1, buckets=1, unwanted=1)

PATIENCE = timedelta(seconds=20)


@pytest.fixture
def front(tmp_path: Path, clean_redis_url: str) -> Iterator[Front]:
    with tls_front(tmp_path, parse_redis_url(clean_redis_url).port) as served:
        yield served


def _settings(front: Front, options: str = "") -> config.Settings:
    url = SecretStr(f"rediss://localhost:{front.port}/0{options}")
    return config.Settings(_env_file=None, redis_url=url, connect_timeout=PATIENCE)


async def _checks(settings: config.Settings) -> list[Check]:
    """What `doctor` says of the broker."""
    async with open_reader(config.Config(settings, {})) as reader:
        return await check_broker(reader, settings, lambda: probes(settings))


def _conf(front: Front, options: str = "") -> Any:
    """Celery's configuration, as every process makes it."""
    return make_application(config.Config(_settings(front, options), {})).conf


async def test_each_client_connects_where_the_authority_is_trusted(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
    url = _conf(front).broker_url
    broker, store = Broker(url, timedelta(seconds=20)), ThrottleStore(url, "w", timeout=20)
    try:
        assert await broker.depths(["deliver"]) == {"deliver": 0}
        assert await store.sync(SAID) is not None
    finally:
        await broker.close()
        await store.close()
    checks = await _checks(_settings(front))
    assert {check.name for check in checks} == {NAME, *probes(_settings(front))}
    assert [
        (check.name, check.detail)
        for check in checks
        if not check.ok or check.level is not Level.OK
    ] == []


async def test_no_client_talks_to_a_server_that_it_cannot_trust(front: Front) -> None:
    url = _conf(front).broker_url
    broker, store = Broker(url, timedelta(seconds=20)), ThrottleStore(url, "w", timeout=20)
    try:
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            await broker.depths(["deliver"])
        assert await store.sync(SAID) is None
    finally:
        await broker.close()
        await store.close()
    for name, client in probes(_settings(front)).items():
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            await ask(client, PATIENCE)
        assert front.accepted == 0, name
    (first,) = await _checks(_settings(front))
    assert not first.ok, "one cause is told once"


async def test_a_certificate_for_another_host_is_refused_by_each(
    tmp_path: Path, clean_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    with tls_front(
        tmp_path / "other", parse_redis_url(clean_redis_url).port, host="elsewhere.example"
    ) as other:
        monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
        for client in probes(_settings(other)).values():
            with pytest.raises(BrokerUnavailable, match=r"certificate verify failed|doesn't match"):
                await ask(client, PATIENCE)
        assert other.accepted == 0


async def test_a_private_authority_can_be_named_in_the_url(
    front: Front,
) -> None:
    option = f"?ssl_ca_certs={front.authority}"
    assert _conf(front, option).broker_url == _conf(front).broker_url, (
        "options go to each client apart, never as text"
    )
    assert all(check.ok for check in await _checks(_settings(front, option)))


async def test_doctor_warns_of_a_server_that_nobody_verifies(
    front: Front,
) -> None:
    assert _conf(front).broker_use_ssl != _conf(front, "?ssl_cert_reqs=none").broker_use_ssl
    checks = await _checks(_settings(front, "?ssl_cert_reqs=none"))
    assert [(c.name, c.ok) for c in checks if c.level is Level.WARNING] == [
        ("broker: certificate", True)
    ]
