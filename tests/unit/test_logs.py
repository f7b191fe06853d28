"""Logs: one JSON line an event for machines, text for people, the libraries' records in the same form."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog

from app.logs import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_each_event_is_one_json_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    with structlog.contextvars.bound_contextvars(task="poll"):
        structlog.get_logger().info("polled", feed="orders", read=3)
    logging.getLogger("celery.worker").warning("line one\nline two")
    first, second = map(orjson.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["feed"], first["read"], first["task"], first["level"]) == (
        "polled", "orders", 3, "poll", "info",
    )  # fmt: skip
    assert (second["event"], second["logger"], second["level"]) == ("line one\nline two", "celery.worker", "warning")
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
