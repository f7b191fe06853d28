"""`REDIS_URL` means one thing to every client, or is refused with what to write; never with a part
of its password.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import redis
import trustme
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.url import parse_url as as_kombu_reads
from pydantic import SecretStr

import config
from app.core.errors import ConfigError
from app.core.redis_url import WrongRedisUrl, parse_redis_url
from tests.unit.configuration.test_config import GOOD

VERIFIED = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


@pytest.mark.parametrize(
    "url",
    [
        "rediss://r.example:6390/2",
        "rediss://r.example:6390/2?ssl_cert_reqs=required",
        "REDISS://r.example:6390/2?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=True",
    ],
)
def test_tls_is_verified_without_a_word_and_with_the_word_of_either_library(url: str) -> None:
    parsed = parse_redis_url(url)
    assert (parsed.tls, parsed.verified) == (VERIFIED, True)
    assert parsed.options["ssl"] is True
    assert parsed.text == "rediss://r.example:6390/2"


def test_an_operator_may_give_up_verifying_in_so_many_words() -> None:
    for option in ("ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=false"):
        assert not parse_redis_url(f"rediss://r.example/?{option}").verified


PASSWORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f"), min_size=1
)


@given(
    user=st.one_of(st.none(), PASSWORDS),
    password=PASSWORDS,
    database=st.integers(0, 15),
    secure=st.booleans(),
)
def test_every_library_reads_the_same_out_of_it(
    user: str | None, password: str, database: int, secure: bool
) -> None:
    from urllib.parse import quote

    login = f"{quote(user or '', safe='')}:{quote(password, safe='')}"
    url = f"{'rediss' if secure else 'redis'}://{login}@[::1]:6390/{database}"
    ours = parse_redis_url(url)
    found = as_kombu_reads(ours.text)
    assert (
        (found["userid"], found["password"]) == (user, password) == (ours.username, ours.password)
    )
    assert (found["hostname"], found["port"], found["virtual_host"]) == ("::1", 6390, str(database))
    pool = redis.ConnectionPool.from_url(ours.text)
    kwargs = pool.connection_kwargs
    assert (kwargs.get("username"), kwargs["password"], kwargs["db"]) == (user, password, database)


SECRET = "Top@Secret99"  # noqa: S105
WRONG = {
    f"redis://sa:{SECRET}@r.example:6379/0": "written %40",
    "redis://sa:Top/Secret99@r.example:6379/0": "written %40",
    "redis://sa:Top#Secret99@r.example:6379/0": "written %40",
    "redis://sa:Top?Secret99@r.example:6379/0": "written %40",
    "redis://sa:Secret99@r.example:abc/0": "written %40",
    "redis://sa:Secret99@r.example:99999/0": "a port is 1 to 65535",
    "redis://sa:Secret99@r.example:6379/Secret99": "the number of the database",
    "rediss://:Secret99@r.example/0?ssl_cert_reqs=Secret99": "required",
    "rediss://:Secret99@r.example/0?ssl_ca_certs=/no/such/file": "No such file",
    "rediss://:Secret99@r.example/0?ssl_keyfile=/no/such/file": "ssl_certfile",
    "rediss://:Secret99@r.example/0?socket_timeout=5": "the option socket_timeout",
    "redis://:Secret99@r.example/0?ssl_cert_reqs=required": "rediss://",
    "redis://:Secret99@r.example/0?db=Secret99": "the option db",
    "amqp://guest:Secret99@r.example": "amqp://…",
    "sentinel://:Secret99@r.example": "sentinel://…",
    "unix:///run/redis.sock?db=1": "unix://…",
    "Secret99": "a value not shown here",
    "redis://": "redis://host:port/0",
    "://": "redis://host:port/0",
    " redis://:Secret99@r.example": "redis://host:port/0",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_not_all_would_read_alike_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(WrongRedisUrl) as caught:
        parse_redis_url(url)
    assert WRONG[url] in str(caught.value)
    assert "Secret99" not in str(caught.value)


def test_a_certificate_file_that_no_client_could_load_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("no certificate", encoding="utf-8")
    with pytest.raises(WrongRedisUrl, match=r"ssl_ca_certs.*holds no PEM"):
        parse_redis_url(f"rediss://r.example/0?ssl_ca_certs={tmp_path}/junk.pem")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    parsed = parse_redis_url(f"rediss://r.example/0?ssl_ca_certs={tmp_path}/ca.pem")
    assert parsed.tls == VERIFIED | {"ssl_ca_certs": f"{tmp_path}/ca.pem"}


def test_it_is_checked_when_the_settings_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.delenv("FEEDS_FILE", raising=False)
    monkeypatch.setenv("REDIS_URL", f"redis://sa:{SECRET}@r.example/0")
    with pytest.raises(
        ConfigError, match=r"environment: REDIS_URL: found a value not shown here; .* %40"
    ) as caught:
        config.load()
    assert "Secret99" not in str(caught.value)


def test_its_repr_shows_no_password() -> None:
    assert "hunter2" not in repr(parse_redis_url("redis://u:hunter2@h/0"))
    assert "hunter2" not in repr(SecretStr("redis://u:hunter2@h/0"))
