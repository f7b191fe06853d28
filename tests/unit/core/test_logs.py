"""Logs: one JSON line an event for machines, text for people, the libraries' records in the same
form.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import structlog
from pymongo.errors import BulkWriteError

from app.core.errors import LedgerUnavailable
from app.core.logs import configure_logging, describe, log_what_nobody_caught

ROOT = Path(__file__).resolve().parents[3]
ROW = "what is in a row"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging, and the hooks of the interpreter, as they were."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = (warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_each_event_is_one_json_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    with structlog.contextvars.bound_contextvars(task="poll"):
        structlog.get_logger().info("polled", feed="orders", read=3)
    logging.getLogger("celery.worker").warning("line one\nline two")
    first, second = map(orjson.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["feed"], first["read"], first["task"], first["level"]) == (
        "polled", "orders", 3, "poll", "info",
    )  # fmt: skip
    assert (second["event"], second["logger"], second["level"]) == (
        "line one\nline two",
        "celery.worker",
        "warning",
    )
    assert first["timestamp"].endswith("Z")


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        int("no")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in orjson.loads(line)["exception"]


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", "json")
    structlog.get_logger().info("polled")
    logging.getLogger("celery").info("received")
    assert capsys.readouterr().err == ""


def test_a_person_gets_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "text")
    structlog.get_logger().info("polled", feed="orders")
    told = capsys.readouterr().err
    assert "polled" in told
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(told)


def test_each_json_line_names_the_process_as_the_ledger_names_workers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("INFO", "json")
    structlog.get_logger().info("polled")
    logging.getLogger("celery.worker").info("ready")
    assert {line["worker"] for line in _lines(capsys)} == {f"{socket.gethostname()}:{os.getpid()}"}


def test_celery_s_own_lines_name_the_task_in_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    data = {"id": "t1", "name": "poll", "kwargs": "{}"}
    logging.getLogger("celery.app.trace").info(
        "Task %(name)s[%(id)s] succeeded", data, extra={"data": data}
    )
    (line,) = _lines(capsys)
    assert (line["task_id"], line["task"], line["event"]) == (
        "t1",
        "poll",
        "Task poll[t1] succeeded",
    )


@pytest.mark.parametrize(
    "library",
    [
        "aiosqlite",
        "pymongo.command",
        "sqlalchemy.engine",
        "oauthlib.oauth2",
        "httpcore.http11",
        "kombu.transport",
        "x",
    ],
)
def test_a_library_s_debug_lines_are_never_written(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    configure_logging("DEBUG", "json")
    logging.getLogger(library).debug("INSERT %s", "payload")
    assert capsys.readouterr().err == ""


def test_debug_shows_our_own_and_celery_s_debug_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("DEBUG", "json")
    for name in ("app.delivery.deliver", "tasks.base", "celery.worker"):
        logging.getLogger(name).debug("seen")
    assert [line["event"] for line in _lines(capsys)] == ["seen"] * 3


def _quoting() -> BulkWriteError:
    """As the driver raises it, with the documents that were not written."""
    return BulkWriteError({"writeErrors": [{"op": {"payload": ROW}}]})


def _end_with(error: BaseException, cause: BaseException | None = None) -> None:
    raise error from cause


def test_a_traceback_leaves_out_what_a_driver_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        _end_with(LedgerUnavailable("the ledger went away"), _quoting())
    except LedgerUnavailable:
        structlog.get_logger().exception("failed")
    (line,) = _lines(capsys)
    assert ROW in str(_quoting())
    assert ROW not in str(line)
    assert line["exception"].startswith("BulkWriteError\n\nwhich led to:")
    assert line["exception"].endswith("LedgerUnavailable: the ledger went away")


def test_an_exception_is_told_by_its_class_where_its_text_may_quote_a_row() -> None:
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(_quoting()) == "BulkWriteError"


def test_an_exception_group_is_told_with_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    try:
        _end_with(ExceptionGroup("two", [ValueError("one"), _quoting()]))
    except ExceptionGroup:
        structlog.get_logger().exception("failed")
    (line,) = _lines(capsys)
    assert "ValueError: one" in line["exception"]
    assert "BulkWriteError" in line["exception"]
    assert ROW not in line["exception"]


async def test_a_task_of_asyncio_that_failed_unseen_is_told_without_its_reprs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("INFO", "json")
    asyncio.get_running_loop().call_exception_handler(
        {"message": "never retrieved", "exception": _quoting(), "task": ROW}
    )
    (line,) = _lines(capsys)
    assert (line["event"], line["exception"]) == ("never retrieved", "BulkWriteError")


UNCAUGHT = """
import sys, threading, warnings
from app.core.logs import configure_logging, log_what_nobody_caught
configure_logging("INFO", "json")
log_what_nobody_caught()
warnings.warn("old", DeprecationWarning, stacklevel=1)
class Bad:
    def __del__(self): raise ValueError("in del")
Bad()
thread = threading.Thread(target=lambda: 1 / 0, name="pool-1")
thread.start()
thread.join()
raise LookupError("in main")
"""


def test_warnings_and_what_nobody_caught_are_events_too() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", UNCAUGHT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = [orjson.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [(line["event"], line.get("kind", line.get("category"))) for line in lines] == [
        ("warned", "DeprecationWarning"),
        ("uncaught", "ValueError"),
        ("uncaught", "ZeroDivisionError"),
        ("uncaught", "LookupError"),
    ]
    assert lines[2]["thread"] == "pool-1"
    assert "LookupError: in main" in lines[3]["exception"]


def test_ctrl_c_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    log_what_nobody_caught()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "KeyboardInterrupt\n"


CRASHING = """
from pymongo.errors import BulkWriteError
from app.core.errors import LedgerUnavailable
from app.core.logs import configure_logging
from celery_app import app
from tasks.base import RelayTask
configure_logging("INFO", "json")
@app.task(name="crash", base=RelayTask, rests=False)
def crash(feed, foreseen):
    try:
        raise BulkWriteError({"writeErrors": ["what is " + "in a row"]})
    except BulkWriteError as error:
        if foreseen:
            raise LedgerUnavailable("the ledger went away") from error
        raise
for foreseen in (False, True):
    ended = crash.apply(kwargs={"feed": "orders", "foreseen": foreseen}, task_id="t1")
    print(repr(ended.result), str(ended.traceback))
"""


def test_celery_and_so_flower_is_told_no_driver_s_text(tmp_path: Path) -> None:
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(
        '[feeds.orders]\ntable = "orders"\nkey = "id"\ncursor = { strategy = "identity", column = "id" }\n'
        '[feeds.orders.partner]\nurl = "http://127.0.0.1:9/"\n',
        encoding="utf-8",
    )
    environment = {**os.environ, "FEEDS_FILE": str(feeds), "SOURCE_URL": "sqlite:///x.db"}
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=environment,
    )
    assert "TaskCrashed('BulkWriteError')" in ended.stdout
    assert "LedgerUnavailable('the ledger went away')" in ended.stdout
    assert ROW not in ended.stdout + ended.stderr
    ours = [
        line
        for line in map(orjson.loads, ended.stderr.splitlines())
        if line["event"].startswith("task_")
    ]
    assert [(line["event"], line["kind"], line["feed"], line["task_id"]) for line in ours] == [
        ("task_crashed", "BulkWriteError", "orders", "t1"),
        ("task_failed", "LedgerUnavailable", "orders", "t1"),
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_others_wrote_is_data_in_a_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", form)

    structlog.get_logger().info(
        "attempted", answer="\x1b]0;title\x07 \x9b31m \u202e\nforged line", half="\ud800"
    )
    logging.getLogger("library").warning("it said \x1b[2J\nanother line")

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert not [
        letter
        for line in lines
        for letter in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e")
        if letter in line
    ]
