"""Logging: constant event names with fields, as text on a terminal and as one line of JSON an event
elsewhere.

Everything goes through one handler: Celery's and the libraries' own records, warnings, and uncaught
exceptions. No line holds a payload or a secret, at any level: libraries that log their data are
kept above DEBUG, and tracebacks omit the texts of drivers' exceptions, which may quote a row.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from types import TracebackType
from typing import TextIO, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from app.core.shown import plain, plain_json, plain_lines

log = structlog.get_logger()

_OURS = ("__main__", "app", "celery", "celery_app", "config", "tasks")
"""What may log at DEBUG. Others' debug lines may hold statements, documents, headers or bodies."""
_QUIET = ("aiosqlite", "asyncio", "httpx", "kombu", "pymongo", "sqlalchemy")
"""Libraries whose INFO records do not concern operators."""
_CARRIERS = {
    "aiohttp", "aioodbc", "aiosqlite", "bson", "httpx", "kombu", "orjson", "pydantic", "pydantic_core", "pymongo",
    "pyodbc", "redis", "sqlalchemy", "sqlite3",
}  # fmt: skip
"""Packages whose exceptions quote their input: a row, a document, a URL."""

_HOST = socket.gethostname()

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logging(level: str, form: str, file: str | None = None) -> None:
    """Send records of `level` and above to stderr, or to a file, which may be rotated by moving it.

    `form`: `json`, `text`, or `auto`: text on a terminal.
    """
    as_text = form == "text" if file else is_text(form)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_traceback),
    ]
    if not as_text:
        shared.append(_add_worker)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = WatchedFileHandler(file, encoding="utf-8") if file else logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _of_libraries],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([_plain, structlog.dev.ConsoleRenderer()] if as_text else [_as_json]),
            ],
        )
    )
    logging.getLogger().handlers[:] = [handler]
    _set_levels(logging.getLevelNamesMapping()[level])


def is_text(form: str) -> bool:
    """Whether lines are for people."""
    return form == "text" or (form == "auto" and sys.stderr.isatty())


def line(event: str, level: str, logger: str) -> bytes:
    """One event as a line of JSON, for where logging cannot be used: in a signal handler."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields = {"event": event, "level": level, "timestamp": at, "logger": logger}
    return orjson.dumps(_add_worker(None, "", fields)) + b"\n"


def _set_levels(level: int) -> None:
    logging.getLogger().setLevel(max(level, logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def log_what_nobody_caught() -> None:
    """Log warnings, and exceptions that end a thread or the process, as events too."""
    warnings.showwarning = _log_warning
    sys.excepthook = lambda kind, error, trace: _log_uncaught((kind, error, trace))
    threading.excepthook = _log_thread
    sys.unraisablehook = _log_unraisable


def _log_warning(  # noqa: PLR0917 - as `warnings.showwarning` has it
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    log.warning(
        "warned", category=category.__name__, text=str(message), where=f"{filename}:{lineno}"
    )


def _log_uncaught(found: _ExcInfo) -> None:
    if issubclass(found[0], KeyboardInterrupt):
        sys.__excepthook__(*found)
    else:
        log.critical("uncaught", kind=found[0].__name__, exc_info=found)


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else None
        found = (args.exc_type, args.exc_value, args.exc_traceback)
        log.error("uncaught", kind=args.exc_type.__name__, thread=name, exc_info=found)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        found = (args.exc_type, args.exc_value, args.exc_traceback)
        log.error("uncaught", kind=args.exc_type.__name__, where=args.err_msg, exc_info=found)


def _of_libraries(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The task's id and name as fields, where Celery has them; of asyncio's reports, the first line
    only.
    """
    data = getattr(event["_record"], "data", None)
    if isinstance(data, dict) and event["logger"].startswith("celery."):
        event.update(task_id=data.get("id"), task=data.get("name"))
    if event["logger"] == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[
            0
        ]  # the rest are reprs: a task, an exception with its text
    return event


def describe(error: BaseException) -> str:
    """The exception on one line, without a text that may quote a row."""
    carries = any(kind.__module__.partition(".")[0] in _CARRIERS for kind in type(error).__mro__)
    return type(error).__name__ if carries else f"{type(error).__name__}: {error}"


def _traceback(exc_info: ExcInfo) -> str:
    """A traceback as Python writes it, with each exception as `describe` gives it."""
    return "".join(_lines(exc_info[1], set())).rstrip("\n")


def _lines(error: BaseException, told: set[int]) -> Iterator[str]:
    told.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in told:
        yield from _lines(before, told)
        yield "\nwhich led to:\n\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{describe(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield "one of them:\n"
            yield from _lines(inner, told)


def _add_worker(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The process, as the ledger names workers. Asked for each event: a pool's children are forked."""
    event.setdefault("worker", f"{_HOST}:{os.getpid()}")
    return event


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        text = orjson.dumps(event, default=str).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
        text = json.dumps(event, default=str)
    return plain_json(text)


def _plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape each text so that it cannot control the terminal; only a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = plain_lines(value) if name == "exception" else plain(value)
    return event
