"""Validates messages from Redis before Celery sees them.

Anybody who can write to Redis can put anything into a queue: another application that shares the
database, an older or newer version of this one, a hand at redis-cli. Celery and kombu take what
they find for their own, and raise where it is not, which ends the worker. So each message is read
here first, and made anew of nothing but what we know of it. It is then no more than a hint: what is
to be done, and for which feed, is for the ledger to say.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import structlog

from app.core.clock import LEASE_LIMIT, machine_now, utc_now
from app.core.cursors import LONGEST_FOLLOW_UP
from app.feeds.feed import NAME, Feed
from app.jobs.schedule import JOBS

log = structlog.get_logger()

MESSAGE_LIMIT = 64 * 1024
"""Bytes. Our messages have about 1 KiB."""
REASONS = frozenset({
    "unknown_task", "not_json", "not_base64", "malformed", "content", "too_long", "control", "arguments",
    "unknown_feed", "wrong_key", "gone", "expired",
})  # fmt: skip
"""Why a message is dropped: `docs/operations.md` explains each."""
POLLED_TOGETHER = 16
"""Feeds that one message asks to poll at most: so several workers have a part of them."""
SAID_EVERY_SECONDS = 10.0
"""How often drops for the same reason are logged."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NAME = re.compile(NAME)
_BATCH = re.compile(rf"({NAME})-[0-9a-f]{{16}}")
"""As `app.ledger.batches.new_batch` makes them: the feed, and a random part."""
_TRACE = ("traceparent", "tracestate", "baggage")
_SHOWN = 100

Arguments = Mapping[str, Any]


class Dropped(Exception):
    """A message that is dropped. `reason` is one of `REASONS`; the text has the detail."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(said)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Hint:
    """What a readable message asks for."""

    task: str
    id: str
    args: tuple[Any, ...]
    kwargs: Arguments
    due_in: timedelta | None
    """How much longer it must wait."""
    ignore_result: bool
    shown: str
    """Its arguments, for people."""
    trace: dict[str, str]


@dataclass(slots=True)
class Drops:
    """Counts dropped messages, and logs some of them."""

    counts: Counter[str] = field(default_factory=Counter)
    _said_at: dict[str, float] = field(default_factory=dict)
    _said: Counter[str] = field(default_factory=Counter)

    def note(self, raw: bytes, queue: str, why: Dropped) -> None:
        """Count a message, and log why it was dropped unless the same reason was logged a moment
        ago.
        """
        self.counts[why.reason] += 1
        now = time.monotonic()
        if (
            why.reason == "expired"
            or now - self._said_at.get(why.reason, float("-inf")) < SAID_EVERY_SECONDS
        ):
            return
        since = self.counts[why.reason] - self._said[why.reason]
        self._said_at[why.reason], self._said[why.reason] = now, self.counts[why.reason]
        log.warning(
            "message_dropped", reason=why.reason, queue=queue, said=str(why), bytes=len(raw), messages=since,
            do="it is none of ours, or another version's; what is owed is in the ledger, and is sent again",
        )  # fmt: skip


drops = Drops()
"""This process's."""


def read(raw: bytes, feeds: Mapping[str, Feed], lease: timedelta) -> Hint:
    """Parse a raw message from Redis. Raises `Dropped`, and nothing else, whatever it contains.

    `lease`: by so much the clocks of who sent it and who reads it may differ before its time to
    live counts.
    """
    if len(raw) > MESSAGE_LIMIT:
        raise Dropped("too_long", f"{len(raw)} bytes; ours have at most {MESSAGE_LIMIT}")
    envelope = _object(_json(raw, "the message"), "the message")
    headers, properties = (
        _object(envelope.get("headers"), "headers"),
        _object(envelope.get("properties"), "properties"),
    )
    task = headers.get("task")
    if not isinstance(task, str) or task not in FORMS:
        raise Dropped("unknown_task", f"task {_shown(task)}")
    if headers.get("compression") or envelope.get("content-type") != "application/json":
        raise Dropped(
            "content", f"content type {_shown(envelope.get('content-type'))}, or compressed"
        )
    args, kwargs = _arguments(envelope.get("body"), properties.get("body_encoding"))
    FORMS[task](args, kwargs, feeds)
    id_ = headers.get("id")
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise Dropped("malformed", f"id {_shown(id_)}")
    _require_fresh(headers.get("expires"), lease)
    shown = headers.get("kwargsrepr")
    return Hint(
        task=task,
        id=id_,
        args=tuple(args),
        kwargs=kwargs,
        due_in=_due_in(headers.get("eta")),
        ignore_result=headers.get("ignore_result") is True,
        shown=shown
        if isinstance(shown, str) and shown.isprintable() and len(shown) <= 4 * _SHOWN
        else "",
        trace={name: value for name in _TRACE if isinstance(value := headers.get(name), str)},
    )


def message_of(hint: Hint, queue: str) -> dict[str, Any]:
    """The message for kombu, rebuilt from validated parts only. Times are by the machine's clock."""
    eta = None if hint.due_in is None else (machine_now() + hint.due_in).isoformat()
    body = [
        list(hint.args),
        hint.kwargs,
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    headers: dict[str, Any] = {
        "lang": "py", "task": hint.task, "id": hint.id, "root_id": hint.id, "parent_id": None, "group": None,
        "shadow": None, "retries": 0, "timelimit": [None, None], "eta": eta, "expires": None, "origin": "",
        "argsrepr": repr(hint.args), "kwargsrepr": hint.shown or repr(hint.kwargs), "ignore_result": hint.ignore_result,
        "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    return {
        "body": b64encode(orjson.dumps(body)).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers | hint.trace,
        "properties": {
            "correlation_id": hint.id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid4().hex,
        },
    }


def is_control_message(message: object) -> bool:
    """Whether a message of Celery's remote control has the form that kombu expects."""
    if not isinstance(message, dict):
        return False
    headers, properties, body = (
        message.get("headers"),
        message.get("properties"),
        message.get("body"),
    )
    if (
        not isinstance(properties, dict)
        or not isinstance(headers, dict | None)
        or not isinstance(body, str)
    ):
        return False
    plain = isinstance(properties.get("delivery_tag"), str) and isinstance(
        properties.get("delivery_info"), dict
    )
    return (
        plain
        and message.get("content-type") == "application/json"
        and not (headers or {}).get("compression")
    )


def _json(text: bytes, what: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:  # also for what is nested deep, or no UTF-8
        raise Dropped("not_json", f"{what}: {error.msg}, begins with {_shown(text[:60])}") from None


def _object(found: object, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Dropped("malformed", f"{what}: {type(found).__name__} where an object is expected")
    return found


def _arguments(body: object, encoding: object) -> tuple[list[Any], dict[str, Any]]:
    if not isinstance(body, str) or encoding != "base64":
        raise Dropped("malformed", f"body: {type(body).__name__}, encoding {_shown(encoding)}")
    try:
        decoded = b64decode(body, validate=True)
    except (NotBase64, ValueError):
        raise Dropped("not_base64", f"body: begins with {_shown(body[:60])}") from None
    match _json(decoded, "body"):
        case [list() as args, dict() as kwargs, dict() as embedded] if not any(embedded.values()):
            return args, kwargs
    raise Dropped("malformed", "body: not [arguments, named arguments, nothing else to be called]")


def _moment(text: object, what: str) -> datetime:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None:
        raise Dropped("malformed", f"{what} {_shown(text)}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _require_fresh(expires: object, lease: timedelta) -> None:
    if expires is not None and utc_now() - _moment(expires, "expires") > lease:
        raise Dropped("expired")


def _due_in(eta: object) -> timedelta | None:
    if eta is None:
        return None
    due_in = _moment(eta, "eta") - utc_now()
    if due_in > LONGEST_FOLLOW_UP + LEASE_LIMIT:
        raise Dropped("malformed", f"eta {_shown(eta)}: none of ours waits so long")
    return min(due_in, LONGEST_FOLLOW_UP) if due_in > timedelta(0) else None


def _shown(found: object) -> str:
    """What was found, as data: one line, no control characters, not long."""
    text = (
        found
        if isinstance(found, str | bytes)
        else type(found).__name__
        if isinstance(found, dict | list)
        else found
    )
    return ascii(text[:_SHOWN] if isinstance(text, str | bytes) else text)[: 2 * _SHOWN]


# --- what each task takes

Form = Callable[[list[Any], Arguments, Mapping[str, Feed]], None]
"""Raises `Dropped` for arguments that the task does not take."""


def _feed_of(kwargs: Arguments, feeds: Mapping[str, Feed]) -> Feed:
    name = kwargs.get("feed")
    if not isinstance(name, str) or name not in feeds:
        raise Dropped("unknown_feed", f"feed {_shown(name)}")
    return feeds[name]


def _require(args: list[Any], kwargs: Arguments, *names: str) -> None:
    if args or kwargs.keys() != set(names):
        raise Dropped(
            "arguments", f"{len(args)} arguments, and {_shown(', '.join(sorted(map(str, kwargs))))}"
        )


def _deliver(args: list[Any], kwargs: Arguments, _: Mapping[str, Feed]) -> None:
    """A batch of a feed, which another worker may know."""
    _require(args, kwargs, "batch", "feed", "n")
    feed, batch = kwargs["feed"], kwargs["batch"]
    named = _BATCH.fullmatch(batch) if isinstance(batch, str) else None
    if named is None or named[1] != feed or type(kwargs["n"]) is not int:
        raise Dropped("arguments", f"batch {_shown(batch)} of feed {_shown(feed)}")


def _poll(args: list[Any], kwargs: Arguments, feeds: Mapping[str, Feed]) -> None:
    """Beat's poll, of one feed or several, or a follow-up, which ends when beat's next poll is due."""
    if kwargs.keys() == {"feeds"}:
        return _poll_several(args, kwargs, feeds)
    feed = _feed_of(kwargs, feeds)
    if kwargs.keys() == {"feed"}:
        return _require(args, kwargs, "feed")
    _require(args, kwargs, "feed", "after", "until")
    after, until = kwargs["after"], kwargs["until"]
    latest = (utc_now() + feed.poll_every + LEASE_LIMIT).timestamp()
    if not (_is_number(after, LONGEST_FOLLOW_UP.total_seconds()) and _is_number(until, latest)):
        raise Dropped("arguments", f"a poll after {_shown(after)} s, until {_shown(until)}")
    return None


def _poll_several(args: list[Any], kwargs: Arguments, feeds: Mapping[str, Feed]) -> None:
    """One that this worker does not know, or knows no more, is passed over: the others are polled."""
    _require(args, kwargs, "feeds")
    names = kwargs["feeds"]
    if (
        not isinstance(names, list)
        or len(names) > POLLED_TOGETHER
        or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
    ):
        raise Dropped("arguments", f"polls of {_shown(str(names))}")
    if not any(name in feeds for name in names):
        raise Dropped("unknown_feed", f"feeds {_shown(', '.join(names))}")


def _add(args: list[Any], kwargs: Arguments, _: Mapping[str, Feed]) -> None:
    if kwargs or len(args) != 2 or not all(_is_number(number, 1e9) for number in args):
        raise Dropped("arguments", "not two numbers")


def _nothing(args: list[Any], kwargs: Arguments, _: Mapping[str, Feed]) -> None:
    _require(args, kwargs)


def _is_number(found: object, most: float) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= most


FORMS: Mapping[str, Form] = {
    "add": _add,
    "deliver": _deliver,
    "poll": _poll,
    **dict.fromkeys(("retries", "sweep", "adopt_orphans", "notify"), _nothing),
    **dict.fromkeys((job.task for job in JOBS), _nothing),
}
"""Every task, and the arguments it takes."""
