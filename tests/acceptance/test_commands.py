"""The command line, as an operator meets it: one clear line for what is wrong, an exit code, no
traceback.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from app.testbed.embedded.stack import ROOT, Stack
from tests.support.command import command
from tests.support.databases import Databases, of_database
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, mongo_url: str, databases: Databases
) -> Iterator[Stack]:
    """For what needs no worker: one stack, which a test leaves as it found it."""
    with (
        databases.bare() as name,
        Stack(
            tmp_path_factory.mktemp("servers"),
            settings={"MONGO_URL": of_database(mongo_url, name)},
        ) as running,
    ):
        yield running


def test_doctor_finds_all_well(servers: Stack) -> None:
    answer = command(servers.environment, "doctor", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    checks = orjson.loads(answer.stdout)["checks"]
    doubtful = {check["name"] for check in checks if check["level"] != "ok"}
    assert doubtful <= {"ledger: replica set"}, "the embedded ledger may be a standalone server"
    names = {check["name"] for check in checks}
    assert {
        "feed orders",
        "feed orders: key",
        "feed orders: cursor index",
        "feed orders: waiting",
    } <= names
    assert all(check["latency_ms"] > 0 for check in checks if check["latency_ms"] is not None)


@pytest.mark.parametrize(
    ("setting", "value", "check"),
    [
        ("REDIS_URL", "redis://127.0.0.1:1/0", "broker (REDIS_URL)"),
        ("MONGO_URL", "mongodb://127.0.0.1:1/celery_logs", "ledger (MONGO_URL)"),
        ("SOURCE_URL", "sqlite:////nowhere/source.db", "source (SOURCE_URL)"),
    ],
)
def test_doctor_names_the_server_that_is_down(
    servers: Stack, setting: str, value: str, check: str
) -> None:
    answer = command(
        {**servers.environment, setting: value, "CONNECT_TIMEOUT": "5s"}, "doctor", "--json"
    )
    failed = {
        found["name"]: found["detail"]
        for found in orjson.loads(answer.stdout)["checks"]
        if not found["ok"]
    }
    assert answer.returncode == 1
    assert check in failed
    assert "\n" not in failed[check]
    assert "Traceback" not in answer.stdout + answer.stderr
    assert len(failed) == 1


def test_doctor_names_the_partner_that_does_not_listen(servers: Stack) -> None:
    servers.partner_process.kill()
    answer = command(servers.environment, "doctor")
    servers.restart_partner()
    assert answer.returncode == 1
    assert "FAILED" in answer.stdout
    assert "partner orders" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr


def test_doctor_names_a_column_that_the_body_wants_and_the_table_lacks(
    servers: Stack, tmp_path: Path
) -> None:
    text = Path(servers.environment["FEEDS_FILE"]).read_text(encoding="utf-8")
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(
        f'{text}\n[feeds.orders.body]\nreference = "$no_such"\nnumber = "$id"\n', encoding="utf-8"
    )
    answer = command({**servers.environment, "FEEDS_FILE": str(feeds)}, "doctor", "--json")
    failed = {
        found["name"]: found["detail"]
        for found in orjson.loads(answer.stdout)["checks"]
        if not found["ok"]
    }
    assert answer.returncode == 1
    assert list(failed) == ["feed orders: body"]
    assert failed["feed orders: body"].startswith("no column 'no_such'; one of id, ")


def test_ping_goes_through_broker_worker_and_result_backend(stack: Stack) -> None:
    stack.start_worker()
    answer = command(stack.environment, "ping", "--json", "--timeout", "30")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    legs = orjson.loads(answer.stdout)
    assert legs["ok"]
    through = legs.get("through_worker_ms", legs.get("through_worker_and_back_ms"))
    assert legs["total_ms"] >= max(legs["to_broker_ms"], through)


def test_ping_says_that_no_worker_answers(servers: Stack) -> None:
    answer = command(servers.environment, "ping", "--timeout", "0.5")
    assert answer.returncode == 1
    assert "no worker answered within 0.5 s" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_status_and_deliveries_tell_what_happened(patient: Stack) -> None:
    stack = patient
    stack.start_worker()
    stack.start_beat()
    stack.start_generator(20)

    def delivered() -> bool:
        (feed,) = orjson.loads(command(stack.environment, "status", "--json").stdout)["feeds"]
        return bool(
            feed["states"]["delivered"] == 20 and feed["open"] == 0 and feed["lag_rows"] == 0
        )

    wait_until(delivered, timeout=60, message="status to say 20 delivered")
    listed = orjson.loads(
        command(stack.environment, "deliveries", "list", "--json", "--limit", "5").stdout
    )
    assert len(listed["deliveries"]) == 5
    assert "payload" not in listed["deliveries"][0]
    shown = orjson.loads(
        command(stack.environment, "deliveries", "show", "orders:7", "--json").stdout
    )
    assert shown["delivery"]["state"] == "delivered"
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["delivered"]
    missing = command(stack.environment, "deliveries", "show", "orders:999")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("program", [("app", "status"), ("celery", "-A", "celery_app", "worker")])
def test_every_configuration_problem_is_told_at_once(
    tmp_path: Path, program: tuple[str, ...]
) -> None:
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(
        '[feeds.orders]\ntable = "orders"\nkey = "id"\npage_size = 0\npoll_evry = "5s"\n'
        'cursor = { strategy = "identitty", column = "id" }\n[feeds.orders.partner]\ntimeout = "soon"\n'
    )
    environment = {"PATH": "/usr/bin:/bin", "FEEDS_FILE": str(feeds), "LEASE": "never"}
    answer = subprocess.run(
        [sys.executable, "-m", *program], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    told = answer.stderr
    assert answer.returncode == (2 if program[0] == "app" else 1)
    for field in (
        "LEASE",
        "page_size",
        "poll_evry",
        "cursor.strategy",
        "partner.url",
        "partner.timeout",
    ):
        assert field in told, told
    assert "'identitty'" in told
    assert "Traceback" not in told
