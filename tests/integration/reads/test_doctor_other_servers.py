"""`doctor` before servers that speak MongoDB's protocol and are none, or an old one: what each
says, played back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from pydantic import SecretStr

import config
from app.reads.doctor.check import Check
from app.reads.doctor.ledger import check_ledger
from app.runtime.reader import open_reader
from tests.support.wire import Answer, serving


async def _checks(answers: Mapping[str, Answer], options: str = "") -> dict[str, Check]:
    async with serving(answers) as url:
        settings = config.Settings(
            _env_file=None, mongo_url=SecretStr(url + options), connect_timeout=timedelta(seconds=5)
        )
        async with open_reader(config.Config(settings, {})) as reader:
            return {
                check.name: check for check in await check_ledger(reader, settings.connect_timeout)
            }


FERRET = {"version": "7.0.77", "ferretdb": {"version": "v1.24.0"}}
LACKS: Mapping[str, tuple[Mapping[str, Answer], str, str]] = {
    "FerretDB 1 without partial indexes": (
        {
            "buildInfo": FERRET,
            "createIndexes": {
                "code": 238,
                "errmsg": "support for partialFilterExpression is not implemented yet",
            },
        },
        "ledger: indexes",
        "ledger: the server makes no partial index (support for partialFilterExpression is not implemented yet); "
        "use MongoDB 4.4 or later, or a server that has them",
    ),
    "Amazon DocumentDB 5 without retryable writes": (
        {
            "buildInfo": {"version": "5.0.0"},
            "insert": {"code": 301, "errmsg": "Retryable writes are not supported"},
        },
        "ledger: writing",
        "ledger: Retryable writes are not supported; "
        "the server has no retryable writes: add retryWrites=false to MONGO_URL",
    ),
    "Azure Cosmos DB with too little throughput": (
        {
            "buildInfo": {"version": "4.2.0"},
            "insert": {
                "code": 16500,
                "errmsg": "Error=16500, RetryAfterMs=34, Details='Request rate is large'",
            },
        },
        "ledger: writing",
        "ledger: Error=16500, RetryAfterMs=34, Details='Request rate is large'",
    ),
    "MongoDB 3.6": (
        {"hello": {"maxWireVersion": 6}},
        "ledger (MONGO_URL)",
        "ledger: Server at 127.0.0.1:PORT reports wire version 6, but this version of PyMongo requires at least 9 "
        "(MongoDB 4.4)",
    ),
    "a member that recovers": (
        {"hello": {"ismaster": False, "isWritablePrimary": False}},
        "ledger (MONGO_URL)",
        "ledger: 127.0.0.1:PORT is neither primary nor secondary now: it starts, or recovers; look at its log",
    ),
    "an arbiter": (
        {"hello": {"ismaster": False, "isWritablePrimary": False, "arbiterOnly": True}},
        "ledger (MONGO_URL)",
        "ledger: 127.0.0.1:PORT is an arbiter of replica set rs0; Rowrelay reads and writes through the primary: "
        "name all members in MONGO_URL and leave directConnection out",
    ),
    "a full disk": (
        {
            "buildInfo": {"version": "7.0.0"},
            "insert": {"code": 14031, "errmsg": "available disk space too small"},
        },
        "ledger: writing",
        "ledger: available disk space too small; free space where MongoDB keeps its data",
    ),
}


@pytest.mark.parametrize("server", LACKS)
async def test_what_a_server_lacks_is_one_line_that_says_what_to_do(server: str) -> None:
    answers, name, said = LACKS[server]
    checks = await _checks(answers)
    failed = [check for check in checks.values() if not check.ok]
    assert [check.name for check in failed] == [name]
    port = failed[0].detail.partition("127.0.0.1:")[2].split(" ")[0]
    assert failed[0].detail.removesuffix(".") == said.replace("PORT", port)


async def test_a_server_that_has_all_is_named() -> None:
    checks = await _checks({"buildInfo": FERRET | {"ferretdb": {"version": "v2.5.0"}}})
    assert all(check.ok for check in checks.values())
    said = checks["ledger (MONGO_URL)"].detail
    assert said == "FerretDB v2.5.0 (as MongoDB 7.0.77), primary of replica set rs0, 1 member"


async def test_retryable_writes_are_not_asked_of_a_server_where_the_url_says_so() -> None:
    """As before Amazon DocumentDB: a write with a transaction number is refused."""

    def insert(command: Mapping[str, object]) -> Mapping[str, object]:
        return (
            {"code": 301, "errmsg": "Retryable writes are not supported"}
            if "txnNumber" in command
            else {"n": 1}
        )

    answers: Mapping[str, Answer] = {"buildInfo": {"version": "5.0.0"}, "insert": insert}
    assert not (await _checks(answers))["ledger: writing"].ok
    assert (await _checks(answers, "&retryWrites=false"))["ledger: writing"].ok
