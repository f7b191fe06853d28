"""A URL of the ledger that would break a promise is refused at the start, with the reason and
without its secrets.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.write_concern import WriteConcern

import config
from app.configuration import checks
from app.core.errors import ConfigError, LedgerRefused
from app.ledger.client import open_client
from app.ledger.url import url_problems

HOSTS = "mongodb://rowrelay:p4ssw0rd@a.example:27017,b.example:27017/celery_logs"

FOUND = {
    "readPreference=secondary": "readPreference=secondary",
    "readPreference=primaryPreferred": "readPreference=primaryPreferred",
    "readpreference=%6eearest": "readPreference=nearest",
    "readPreferenceTags=dc:ny&readPreferenceTags=": "readPreferenceTags",
    "maxStalenessSeconds=120": "maxStalenessSeconds",
    "readConcernLevel=available": "readConcernLevel=available",
    "readConcernLevel=snapshot": "readConcernLevel=snapshot",
    "w=0": "w=0",
    "w=1": "w=1",
    "w=3": "w=3",
    "w=backup": "w=backup",
    "w=majority&w=1": "w=1",
    "w=majority;journal=false": "journal=false",
    "j=false": "journal=false",
    "fsync=true": "fsync=true",
    "retryWrite=false": "the option retrywrite",
    "maxPoolSize=many": "the option maxPoolSize",
    "tlsCAFile=/no/such/file": "the option tlsCAFile",
}
FINE = (
    "", "replicaSet=rs0&authSource=admin&tls=true", "w=majority&journal=true&wTimeoutMS=20000", "retryWrites=false",
    "readPreference=primary", "readConcernLevel=majority", "readConcernLevel=linearizable", "retryReads=false",
    "maxPoolSize=20&timeoutMS=9000&compressors=zlib&appName=x", "maxStalenessSeconds=-1",
)  # fmt: skip


@pytest.mark.parametrize("options", FOUND)
def test_what_would_read_old_or_lose_what_is_written_is_refused(options: str) -> None:
    problems = url_problems(f"{HOSTS}?{options}")
    assert [found for found, _ in problems] == [FOUND[options]]
    assert "MONGO_URL" in problems[0][1]
    with pytest.raises(LedgerRefused) as refused:
        open_client(f"{HOSTS}?{options}", timedelta(seconds=1))
    assert FOUND[options] in str(refused.value)
    assert "p4ssw0rd" not in str(refused.value)


@pytest.mark.parametrize("options", FINE)
def test_what_breaks_no_promise_is_the_operators_to_say(options: str) -> None:
    assert url_problems(f"{HOSTS}?{options}") == []


def test_options_of_a_name_that_is_looked_up_are_judged_without_looking_it_up() -> None:
    assert url_problems("mongodb+srv://u:p@no.such.example/x?srvMaxHosts=2&retryWrites=true") == []
    assert url_problems("mongodb+srv://u:p@no.such.example/x?w=1")[0][0] == "w=1"


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://u:p4ss?w=0rd@host/x",
        "mongodb://u:12?p4ss=w0rd@host/x",
        "mongodb://u:p4ss/w0rd@host/x",
        "mongodb://u:p4ss@w0rd@host/x",
        "mongodb://u:p4ss%w0rd@host/x",
        "mongodb://u:p4ss:w0rd@host/x",
        "postgres://u:p4ssw0rd@host/x",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_a_part_of_it(url: str) -> None:
    problems = url_problems(url)
    assert len(problems) == 1
    assert not any(part in str(problems) for part in ("p4ss", "w0rd"))


@pytest.mark.parametrize(
    ("options", "retries"), [("", True), ("?retryWrites=true", True), ("?retryWrites=false", False)]
)
async def test_whether_the_driver_writes_again_is_the_urls_to_say(
    options: str, retries: bool
) -> None:
    """Amazon DocumentDB before 8.0.2 and Azure Cosmos DB refuse every write that may be repeated
    so.
    """
    client = open_client(HOSTS + options, timedelta(seconds=1))
    try:
        assert client.options.retry_writes is retries
        assert client.write_concern == WriteConcern("majority")
    finally:
        await client.close()


def _load(place: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, Any]:
    for name in config.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(place)
    monkeypatch.setenv("MONGO_URL", url)
    with pytest.raises(ConfigError) as caught:
        checks.load()
    return {problem.field: str(problem) for problem in caught.value.problems}


def test_no_process_starts_with_such_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _load(tmp_path, monkeypatch, f"{HOSTS}?readPreference=nearest")["MONGO_URL"]
    assert told.startswith(
        "environment: MONGO_URL: found readPreference=nearest; a member that lags behind"
    )
    assert "p4ssw0rd" not in told


def test_a_process_that_asks_no_ledger_needs_no_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "MONGO_URL" not in _load(tmp_path, monkeypatch, "")
