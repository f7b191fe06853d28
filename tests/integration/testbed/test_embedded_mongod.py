"""The genuine mongod: tried by running it, a replica set with a login, and its stand-in where it
does not run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from app.testbed.embedded import mongod
from app.testbed.embedded.mongod import PACKAGE, Mongod, find_mongod
from app.testbed.embedded.replica_set import EmbeddedReplicaSet
from app.testbed.embedded.server import NoServer, packaged
from app.testbed.embedded.servers import EmbeddedMongo
from app.testbed.embedded.stack import ROOT
from tests.support.wait import wait_until

Client = MongoClient[dict[str, Any]]

needs_the_stand_in = pytest.mark.skipif(
    sys.version_info >= (3, 14) and not importlib.util.find_spec("secantus"),
    reason="SecantusDB has no wheel for Python 3.14",
)

PATIENCE_SECONDS = 60
"""What an election may take on a machine that stands still for seconds."""


def program(directory: Path, text: str) -> Path:
    """A `mongod` that is a shell script, in a directory of its own."""
    directory.mkdir()
    script = directory / "mongod"
    script.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    script.chmod(0o755)
    return script


def first_on_path(monkeypatch: pytest.MonkeyPatch, script: Path) -> None:
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def in_package() -> str:
    """The mongod of the package; a test that needs it is skipped where there is none for this
    platform.
    """
    found = packaged(PACKAGE, "mongod")
    if found is None:
        pytest.skip(f"{PACKAGE} is not installed")
    return found


@pytest.fixture(scope="module")
def one() -> Iterator[EmbeddedMongo]:
    server = EmbeddedMongo()
    if not server.genuine:
        pytest.skip(server.description)
    with server:
        yield server


@pytest.fixture(scope="module")
def three() -> Iterator[EmbeddedReplicaSet]:
    replica_set = EmbeddedReplicaSet()
    try:
        replica_set.start()
    except NoServer as error:
        pytest.skip(str(error))
    yield replica_set
    replica_set.stop()


def test_it_is_a_replica_set_of_one_and_says_which_server_it_is(one: EmbeddedMongo) -> None:
    with Client(one.url) as client:
        assert client.admin.command("hello")["setName"] == mongod.REPLICA_SET
        assert (
            f"MongoDB {client.server_info()['version']}, a replica set of one with a login"
            in one.description
        )
        assert client.get_default_database().name == "celery_logs"


def test_nobody_reads_without_the_password(one: EmbeddedMongo) -> None:
    anonymous = re.sub(r"//[^@]*@", "//", one.url)
    with (
        Client(anonymous) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client.get_default_database()["rows"].find_one()


def test_the_ledgers_user_may_read_and_write_and_is_no_administrator(one: EmbeddedMongo) -> None:
    with Client(one.url) as client:
        client.get_default_database()["rows"].insert_one({"_id": "may"})
        with pytest.raises(OperationFailure, match="not authorized"):
            client.admin.command("serverStatus")
    with Client(one.admin_url) as client:
        assert client.admin.command("serverStatus")["ok"] == 1


def test_a_benchmarks_server_has_the_cache_and_journal_of_the_deployed_one() -> None:
    started = (ROOT / "deploy/mongo/start.sh").read_text()
    cache = re.search(r"--wiredTigerCacheSizeGB \"\$\{CACHE_GB:-([\d.]+)\}\"", started)
    assert cache
    with EmbeddedMongo(deployed=True) as server, Client(server.admin_url) as client:
        storage = client.admin.command("getCmdLineOpts")["parsed"]["storage"]
    engine = {"engineConfig": {"cacheSizeGB": float(cache[1])}}
    assert {key: storage[key] for key in storage if key != "dbPath"} == {"wiredTiger": engine}


def test_two_servers_have_different_passwords() -> None:
    assert EmbeddedMongo().admin_url != EmbeddedMongo().admin_url


def test_a_mongod_on_the_path_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_package: str
) -> None:
    script = program(tmp_path / "bin", f'exec "{in_package}" "$@"')
    first_on_path(monkeypatch, script)
    assert find_mongod() == Mongod(str(script), find_mongod().version, "on the PATH")
    with EmbeddedMongo() as server, Client(server.url) as client:
        assert server.process.argv[0] == str(script)
        assert server.description.endswith("mongod on the PATH")
        assert client.admin.command("hello")["setName"] == mongod.REPLICA_SET


def test_one_that_does_not_run_is_passed_over_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_package: str
) -> None:
    first_on_path(
        monkeypatch, program(tmp_path / "bin", "echo 'libssl.so.3: cannot open' >&2; exit 127")
    )
    assert find_mongod().program == in_package
    monkeypatch.setattr(mongod, "packaged", lambda *_: str(tmp_path / "no-such-program"))
    with pytest.raises(
        NoServer,
        match=r"on the PATH does not run here: libssl.so.3: cannot open; .*does not run here",
    ):
        find_mongod()


@needs_the_stand_in
def test_where_no_mongod_runs_its_stand_in_does_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first_on_path(monkeypatch, program(tmp_path / "bin", "exit 3"))
    monkeypatch.setattr(mongod, "packaged", lambda *_: None)
    with EmbeddedMongo() as server, Client(server.url) as client:
        assert not server.genuine
        assert re.match(
            r"SecantusDB \S+ in the place of MongoDB: the mongod on the PATH does not run here: "
            rf"it ended with exit code 3; no mongod of the package {PACKAGE}",
            server.description,
        )
        client.get_default_database()["rows"].insert_one({"_id": 1})


@needs_the_stand_in
def test_one_that_has_a_version_and_does_not_start_is_replaced_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = program(
        tmp_path / "bin",
        '[ "$1" = --version ] && exec echo "db version v9.9.9"\necho no AVX >&2; exit 4',
    )
    first_on_path(monkeypatch, script)
    server = EmbeddedMongo()
    assert "MongoDB 9.9.9" in server.description
    with server, Client(server.url) as client:
        assert "mongod on the PATH was tried and did not start" in server.description
        assert "no AVX" in server.description
        client.get_default_database()["rows"].insert_one({"_id": 1})


def test_with_neither_one_line_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.testbed.embedded.mongod.shutil.which", lambda _: None)
    monkeypatch.setattr(mongod, "packaged", lambda *_: None)
    monkeypatch.setattr("app.testbed.embedded.servers.importlib.util.find_spec", lambda _: None)
    with pytest.raises(
        NoServer,
        match=r"^mongo: no server found \(no mongod on the PATH; .*pip install secantusdb.*$",
    ):
        EmbeddedMongo().start()


def test_a_set_of_three_has_one_primary_and_copies_to_the_others(three: EmbeddedReplicaSet) -> None:
    with Client(three.url) as client:
        client.get_default_database()["rows"].insert_one({"_id": "copied"})
    wait_until(
        lambda: len(three.secondaries()) == 2, timeout=PATIENCE_SECONDS, message="both secondaries"
    )
    assert three.primary() not in three.secondaries()

    def copied(url: str) -> bool:
        with (
            suppress(OperationFailure),
            Client(url) as alone,
        ):  # the users are copied too, a moment later
            return bool(alone.get_default_database()["rows"].find_one({"_id": "copied"}))
        return False

    for member in three.secondaries():
        wait_until(lambda url=member.url: copied(url), timeout=PATIENCE_SECONDS, message="the copy")  # type: ignore[misc]


def test_another_takes_over_from_a_primary_that_is_killed_and_keeps_what_it_acknowledged(
    three: EmbeddedReplicaSet,
) -> None:
    wait_until(
        lambda: len(three.secondaries()) == 2, timeout=PATIENCE_SECONDS, message="both secondaries"
    )
    with Client(three.url) as client:
        rows = client.get_default_database()["rows"]
        rows.insert_one({"_id": "acknowledged"})
        killed = three.primary()
        killed.kill()
        assert three.primary(PATIENCE_SECONDS) is not killed
        assert rows.find_one({"_id": "acknowledged"})
        killed.restart()
        wait_until(
            lambda: killed in three.secondaries(), timeout=PATIENCE_SECONDS, message="its return"
        )


def test_another_takes_over_from_a_primary_that_is_frozen(three: EmbeddedReplicaSet) -> None:
    wait_until(
        lambda: len(three.secondaries()) == 2, timeout=PATIENCE_SECONDS, message="both secondaries"
    )
    frozen = three.primary()
    frozen.pause()
    try:
        assert three.primary(PATIENCE_SECONDS) is not frozen
    finally:
        frozen.resume()
    wait_until(lambda: not frozen.is_primary, timeout=PATIENCE_SECONDS, message="it to notice")


def test_a_set_does_not_outlive_its_parent(three: EmbeddedReplicaSet) -> None:
    del three  # skipped where there is none
    code = (
        "import signal\n"
        "from app.testbed.embedded.replica_set import EmbeddedReplicaSet\n"
        "with EmbeddedReplicaSet(members=1) as own:\n"
        "    print(own.members[0].process.pid, own.members[0].directory, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        parent.kill()
    wait_until(
        lambda: not psutil.pid_exists(int(pid)),
        timeout=PATIENCE_SECONDS,
        message="the member to end",
    )
    wait_until(
        lambda: not Path(directory).exists(),
        timeout=PATIENCE_SECONDS,
        message="its directory to be removed",
    )


def test_a_set_leaves_nothing_behind() -> None:
    replica_set = EmbeddedReplicaSet(members=1)
    try:
        replica_set.start()
    except NoServer as error:
        pytest.skip(str(error))
    with pytest.raises(Exception, match="started already"), replica_set:
        pass
    places = [member.directory for member in replica_set.members]
    processes = [member.process for member in replica_set.members]
    replica_set.stop()
    assert not any(process.alive for process in processes)
    assert not any(place.exists() for place in places)
