"""`purge`, `archive` and `acknowledge`, as an operator types them: killed half-way, run again,
taken back.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from app.core.clock import utc_now
from app.ledger import Ledger
from app.ledger.client import Document
from app.retention.archive import file
from app.retention.archive.restore import checked
from tests.integration.cli.test_replay_command import FEEDS, Desk
from tests.support.wait import wait_until

KEPT = FEEDS + "retention = { payload_days = 1, days = 2 }\n"


@pytest.fixture
def desk(mongo_database_url: str, clean_redis_url: str, tmp_path: Path) -> Desk:
    (tmp_path / "feeds.toml").write_text(KEPT, encoding="utf-8")
    (tmp_path / "archive").mkdir()
    ours = {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path}/source.db",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "ARCHIVE_DIR": str(tmp_path / "archive"),
        "LEASE": "1s",
        "COLUMNS": "200",
    }
    return Desk({**os.environ, **ours}, mongo_database_url)


def _archive(desk: Desk) -> list[Path]:
    return sorted(Path(desk.environment["ARCHIVE_DIR"]).glob("orders/*.zst"))


def _add(
    desk: Desk, count: int, *, days: int = 5, state: str = "delivered", **fields: object
) -> None:
    """Records that settled over the day that began `days` ago, each with an attempt."""
    day = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)

    async def write(ledger: Ledger) -> None:
        deliveries: list[Document] = []
        attempts: list[Document] = []
        for key in range(count):
            at = day + timedelta(seconds=key)
            delivery_id = f"orders:{days}-{key}"
            moments = {"created_at": at, "finished_at": at}
            deliveries.append({
                "_id": delivery_id, "feed": "orders", "key": f"{days}-{key}", "position": key, "payload": "{}",
                "state": state, "attempts": 1, **moments, **fields,
            })  # fmt: skip
            attempts.append(
                {"_id": f"{delivery_id}#aa", "feed": "orders", "at": at, "outcome": "delivered"}
            )
        await ledger._database["deliveries"].insert_many(deliveries)
        await ledger._database["attempts"].insert_many(attempts)

    desk.ask(write)


def _left(desk: Desk, collection: str = "deliveries") -> int:
    return desk.ask(lambda ledger: ledger._database[collection].count_documents({}))


# --- purge


@pytest.mark.parametrize("moment", ["while it writes", "while it deletes"])
def test_killed_half_way_and_run_again_each_record_is_in_exactly_one_verified_file(
    desk: Desk, moment: str
) -> None:
    _add(desk, 120, days=5)
    _add(desk, 120, days=4)
    slow = replace(desk, environment={**desk.environment, "PURGE_SHARE": "0.2"})

    def half_way() -> bool:
        if moment == "while it deletes":
            return 0 < _left(desk) < 240
        return any(Path(desk.environment["ARCHIVE_DIR"]).glob("orders/.*.tmp"))

    with slow.start("purge") as process:
        wait_until(half_way, timeout=60, message=f"the purge to be killed {moment}")
        process.kill()
    assert _left(desk) > 0
    told = desk.answer("purge")
    assert told["feeds"][0]["stopped"] is None
    found = [record.id for path in _archive(desk) for record in file.read(path)]
    assert sorted(found) == sorted(f"orders:{days}-{key}" for days in (4, 5) for key in range(120))
    assert [checked(path)[0].attempts for path in _archive(desk)] == [120, 120]
    assert (_left(desk), _left(desk, "attempts")) == (0, 0)
    assert not list(Path(desk.environment["ARCHIVE_DIR"]).glob("orders/.*"))


def test_a_feed_that_cannot_be_archived_does_not_keep_the_others(
    desk: Desk, tmp_path: Path
) -> None:
    with (tmp_path / "feeds.toml").open("a", encoding="utf-8") as feeds:
        feeds.write(KEPT.replace("orders", "shipments"))
    _add(desk, 3, days=5)
    _add(desk, 4, days=6, feed="shipments")
    (tmp_path / "archive" / "orders").write_text("a file where the folder should be")
    code, told, wrong = desk.run("purge", "--json")
    assert (code, wrong.count("\n")) == (1, 1)
    assert wrong.startswith("rowrelay: feed orders: ")
    found = {one["feed"]: one for one in orjson.loads(told)["feeds"]}
    assert (found["orders"]["records"], found["shipments"]["records"]) == (0, 4)
    assert found["orders"]["stopped"] in wrong
    assert _left(desk) == 3


def test_a_dry_run_says_what_a_run_then_does(desk: Desk) -> None:
    _add(desk, 7, days=5)
    for days in (100, 95, 1):
        desk.ask(
            lambda ledger: ledger.stats.add_logged("orders", 1, utc_now() - timedelta(days=days))  # noqa: B023 - called in the same turn
        )
    (would,) = desk.answer("purge", "--dry-run")["feeds"]
    assert _left(desk) == 7
    (did,) = desk.answer("purge", "orders")["feeds"]
    assert [would[name] for name in ("payloads", "records", "files")] == [
        did[name] for name in ("payloads", "records", "files")
    ]
    assert (would["stats"], did["stats"]) == (2, 2)
    assert (would["attempts"], did["attempts"]) == (None, 7)
    code, told, _ = desk.run("purge")
    assert code == 0
    assert "records purged" in told


def test_an_archive_that_cannot_be_written_is_one_line_and_exit_code_1(desk: Desk) -> None:
    _add(desk, 3)
    away = replace(desk, environment={**desk.environment, "ARCHIVE_DIR": "/nowhere/at/all"})
    code, _, wrong = away.run("purge")
    assert code == 1
    assert wrong.startswith(
        "rowrelay: feed orders: archive /nowhere/at/all: No such file or directory"
    )
    assert wrong.count("\n") == 1
    assert _left(desk) == 3


def test_a_feed_that_there_is_not_is_refused_with_2(desk: Desk) -> None:
    code, _, wrong = desk.run("purge", "ordres")
    assert code == 2
    assert "feed 'ordres': not configured; known feeds: orders" in wrong


# --- archive


def test_verify_finds_what_is_wrong_and_restore_puts_back_what_is_right(desk: Desk) -> None:
    _add(desk, 20)
    desk.answer("purge")
    (path,) = _archive(desk)
    assert desk.answer("archive", "verify", str(path))["files"][0]["records"] == 20
    assert desk.answer("archive", "restore", str(path), "--dry-run")["restored"] == 20
    assert _left(desk) == 0
    assert desk.answer("archive", "restore", str(path)) == {
        "dry_run": False, "feed": "orders", "file": path.name, "restored": 20, "there": 0,
    }  # fmt: skip
    assert (_left(desk), _left(desk, "attempts")) == (20, 20)
    assert desk.answer("purge")["feeds"][0]["records"] == 0, "not purged again at once"
    path.write_bytes(path.read_bytes()[:-9])
    code, told, _ = desk.run("archive", "verify", str(path), str(path.with_name("none.zst")))
    assert code == 1
    assert f"{path.with_name('none.zst')}: no manifest beside it: none.zst.json\n" in told
    code, _, wrong = desk.run("archive", "restore", str(path))
    assert code == 1
    assert wrong.startswith("rowrelay: archive ")


# --- acknowledge


def _dead(desk: Desk) -> list[Document]:
    return sorted(desk.found(), key=lambda found: str(found["_id"]))


def test_acknowledging_says_who_and_when_and_can_be_taken_back(desk: Desk) -> None:
    desk.log_dead(3)
    dry = desk.answer("acknowledge", "orders:1", "--dry-run")
    assert (dry["movable"], dry["moved"]) == (1, 0)
    assert desk.answer("acknowledge", "orders:1", "orders:2")["moved"] == 2
    first, second, _ = _dead(desk)
    assert "acknowledged" not in first
    assert "@" in second["acknowledged"]["by"]
    assert second["state"] == "dead"
    assert desk.answer("acknowledge", "--status", "422") == {
        "selected": 3,
        "moved": 1,
        "skipped": {"acknowledged": 2},
    }
    assert desk.answer("acknowledge", "--undo", "orders:1") == {
        "selected": 1,
        "moved": 1,
        "skipped": {},
    }
    again = _dead(desk)[1]
    assert "acknowledged" not in again
    assert again["withdrawn"]["by"] == second["acknowledged"]["by"]
    code, told, _ = desk.run("acknowledge", "--all", "--undo", "--dry-run")
    assert code == 0
    assert "would be taken back" in told
    assert "dead, acknowledged" in told


def test_replay_leaves_alone_what_is_acknowledged_until_that_is_taken_back(desk: Desk) -> None:
    desk.log_dead(2)
    desk.answer("acknowledge", "orders:0")
    assert desk.answer("replay", "--all") == {
        "selected": 2,
        "moved": 1,
        "skipped": {"acknowledged": 1},
    }
    desk.answer("acknowledge", "--undo", "--feed", "orders")
    assert desk.answer("replay", "--all")["moved"] == 1


def test_an_acknowledged_letter_is_purged_in_time_and_any_other_dead_one_never(desk: Desk) -> None:
    by = {"at": utc_now() - timedelta(days=4), "by": "ada@desk"}
    _add(desk, 2, days=5, state="dead", acknowledged=by, kept_from=by["at"])
    _add(desk, 3, days=6, state="dead")
    assert desk.answer("purge")["feeds"][0]["records"] == 2
    assert _left(desk) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("acknowledge",), "nothing is selected"),
        (("acknowledge", "--undo"), "nothing is selected"),
        (("archive", "verify"), "Missing argument"),
    ],
)
def test_wrong_usage_is_refused_with_2(desk: Desk, arguments: tuple[str, ...], told: str) -> None:
    code, _, wrong = desk.run(*arguments)
    assert code == 2
    assert told in wrong
