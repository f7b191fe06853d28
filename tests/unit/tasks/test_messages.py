"""A message is read with care: what is none of ours is dropped with its reason, and what is ours is
made anew.
"""

from __future__ import annotations

import base64
import gzip
import json
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from structlog.testing import capture_logs

from app.core.clock import utc_now
from tasks.messages import (
    FORMS,
    MESSAGE_LIMIT,
    REASONS,
    Dropped,
    Drops,
    is_control_message,
    message_of,
    read,
)
from tests.support.feeds import make_feed

Message = dict[str, Any]

FEEDS = {"orders": make_feed("orders"), "bills": make_feed("bills")}
LEASE = timedelta(seconds=60)
BATCH = "orders-0123456789abcdef"
HINT: Message = {"batch": BATCH, "feed": "orders", "n": 3}


def body(*parts: object) -> str:
    return base64.b64encode(json.dumps(parts).encode()).decode()


def sent(task: str, *args: object, **kwargs: Any) -> Message:
    """A message as Celery makes it and kombu puts it into Redis."""
    made = Celery("rowrelay").amqp.as_task_v2("8a5f2d1e-1", task, args, kwargs, expires=3600)
    return {
        "body": body(*made.body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": made.headers,
        "properties": {
            **made.properties,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "deliver"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "x",
        },
    }


def raw(message: object) -> bytes:
    return json.dumps(message).encode()


def reason(found: bytes) -> str:
    with pytest.raises(Dropped) as dropped:
        read(found, FEEDS, LEASE)
    said = str(dropped.value)
    assert said.isprintable()
    assert len(said) < 500
    assert dropped.value.reason in REASONS
    return dropped.value.reason


@pytest.mark.parametrize(
    ("task", "args", "kwargs"),
    [
        ("deliver", (), HINT),
        ("poll", (), {"feed": "bills"}),
        ("poll", (), {"feeds": ["bills", "orders", "gone-meanwhile"]}),
        ("poll", (), {"feed": "bills", "after": 0.5, "until": utc_now().timestamp() + 2}),
        ("add", (2, 3), {}),
        *((task, (), {}) for task in FORMS if task not in ("deliver", "poll", "add")),
    ],
)
def test_what_we_send_is_what_the_worker_is_given(
    task: str, args: tuple[object, ...], kwargs: Message
) -> None:
    hint = read(raw(sent(task, *args, **kwargs)), FEEDS, LEASE)
    assert (hint.task, hint.args, dict(hint.kwargs)) == (task, args, kwargs)
    made = message_of(hint, "deliver")
    assert json.loads(base64.b64decode(made["body"]))[:2] == [list(args), kwargs]
    again = read(raw(made), FEEDS, LEASE)
    assert (again.task, again.id, again.kwargs) == (hint.task, hint.id, hint.kwargs), (
        "what goes back is read again"
    )


def changed(path: str, value: object) -> bytes:
    """A hint with one thing in it changed."""
    message: Any = sent("deliver", **HINT)
    *places, last = path.split("/")
    part = message
    for place in places:
        part = part[place]
    part[last] = value
    return raw(message)


def deliver(**kwargs: Any) -> bytes:
    return raw(sent("deliver", **{**HINT, **kwargs}))


JUNK: dict[str, tuple[bytes, str]] = {
    "not text": (b"hello \xff\xfe", "not_json"),
    "nothing": (b"", "not_json"),
    "a number": (b"42", "malformed"),
    "a list": (b"[]", "malformed"),
    "an empty object": (b"{}", "malformed"),
    "nested deep": (b"[" * 60_000, "not_json"),
    "objects nested deep": (b'{"a":' * 10_000, "not_json"),
    "control characters": (b"\x1b[31m\x00\r\n{", "not_json"),
    "too long": (b'"' + b"x" * MESSAGE_LIMIT + b'"', "too_long"),
    "headers a list": (changed("headers", []), "malformed"),
    "headers nothing": (changed("headers", None), "malformed"),
    "properties a text": (changed("properties", "x"), "malformed"),
    "task an object": (changed("headers/task", {"$ne": None}), "unknown_task"),
    "another application's": (changed("headers/task", "shop.tasks.mail"), "unknown_task"),
    "another version's": (changed("headers/task", "deliver_v9"), "unknown_task"),
    "Celery's own": (changed("headers/task", "celery.group"), "unknown_task"),
    "protocol 1": (raw({**sent("deliver", **HINT), "headers": {}}), "unknown_task"),
    "gzip": (changed("headers/compression", "application/x-gzip"), "content"),
    "pickle": (changed("content-type", "application/x-python-serialize"), "content"),
    "yaml": (changed("content-type", "application/x-yaml"), "content"),
    "no content type": (changed("content-type", None), "content"),
    "no base64": (changed("body", "%%%"), "not_base64"),
    "body not ASCII": (changed("body", "ä"), "not_base64"),
    "body a number": (changed("body", 42), "malformed"),
    "body nothing": (changed("body", None), "malformed"),
    "body plain": (changed("properties/body_encoding", None), "malformed"),
    "body no JSON": (changed("body", base64.b64encode(b"{{{").decode()), "not_json"),
    "body packed": (
        changed("body", base64.b64encode(gzip.compress(b"\0" * 10_000_000)).decode()),
        "not_json",
    ),
    "body a pickle": (changed("body", base64.b64encode(pickle.dumps([])).decode()), "not_json"),
    "body nested deep": (changed("body", base64.b64encode(b"[" * 30_000).decode()), "not_json"),
    "body an object": (changed("body", base64.b64encode(b"{}").decode()), "malformed"),
    "body of two": (changed("body", body([], HINT)), "malformed"),
    "a task to be called back": (
        changed("body", body([], HINT, {"callbacks": [{"task": "purge"}]})),
        "malformed",
    ),
    "a chain": (changed("body", body([], HINT, {"chain": [{"task": "purge"}]})), "malformed"),
    "arguments by place": (changed("body", body([BATCH, "orders", 3], {}, {})), "arguments"),
    "arguments too many": (changed("body", body(["x"], HINT, {})), "arguments"),
    "id an object": (changed("headers/id", {}), "malformed"),
    "id very long": (changed("headers/id", "x" * 5000), "malformed"),
    "id of two lines": (changed("headers/id", "a\nb"), "malformed"),
    "eta far away": (changed("headers/eta", "9999-12-31T23:59:59+00:00"), "malformed"),
    "eta no moment": (changed("headers/eta", "soon"), "malformed"),
    "eta a number": (changed("headers/eta", 1e308), "malformed"),
    "expires no moment": (changed("headers/expires", {"$gt": ""}), "malformed"),
    "expired": (changed("headers/expires", "2020-01-01T00:00:00+00:00"), "expired"),
    "feed unknown": (raw(sent("poll", feed="shop")), "unknown_feed"),
    "feeds unknown": (raw(sent("poll", feeds=["shop", "shed"])), "unknown_feed"),
    "feeds none": (raw(sent("poll", feeds=[])), "unknown_feed"),
    "feeds a text": (raw(sent("poll", feeds="orders")), "arguments"),
    "feeds an operator": (raw(sent("poll", feeds=["orders", {"$ne": None}])), "arguments"),
    "feeds and a line end": (raw(sent("poll", feeds=["orders", "bills\n"])), "arguments"),
    "feeds very many": (raw(sent("poll", feeds=["orders"] * 1000)), "arguments"),
    "feeds and a feed": (raw(sent("poll", feeds=["orders"], feed="orders")), "arguments"),
    "feed of another batch": (deliver(feed="shop"), "arguments"),
    "feed an operator": (deliver(feed={"$ne": None}), "arguments"),
    "batch an operator": (deliver(batch={"$gt": ""}), "arguments"),
    "batch of another feed": (deliver(feed="bills"), "arguments"),
    "batch a list": (deliver(batch=[BATCH]), "arguments"),
    "batch of no form": (deliver(batch="orders"), "arguments"),
    "batch and a line end": (deliver(batch=BATCH + "\n"), "arguments"),
    "n an object": (deliver(n={}), "arguments"),
    "n true": (deliver(n=True), "arguments"),
    "one argument more": (deliver(evil=1), "arguments"),
    "poll after for ever": (
        raw(sent("poll", feed="orders", after=1e308, until=1e308)),
        "arguments",
    ),
    "poll until for ever": (raw(sent("poll", feed="orders", after=1, until=4e9)), "arguments"),
    "poll after before": (raw(sent("poll", feed="orders", after=-1, until=1)), "arguments"),
    "poll by half": (raw(sent("poll", feed="orders", after=1)), "arguments"),
    "sweep with something": (raw(sent("sweep", limit=10**9)), "arguments"),
    "add of texts": (raw(sent("add", "x" * 1000, "y")), "arguments"),
}


@pytest.mark.parametrize("name", JUNK)
def test_what_is_none_of_ours_is_dropped_with_its_reason(name: str) -> None:
    found, expected = JUNK[name]
    assert reason(found) == expected


@pytest.mark.parametrize("seconds", [-50, -10, 0, 50])
def test_clocks_that_differ_by_less_than_a_lease_expire_nothing(seconds: int) -> None:
    """A tick of beat's lives for ten seconds and more."""
    expires = (utc_now() + timedelta(seconds=seconds)).isoformat()
    assert read(changed("headers/expires", expires), FEEDS, LEASE).task == "deliver"


def test_what_is_due_later_waits_for_as_long_by_the_machines_clock() -> None:
    hint = read(
        changed("headers/eta", (utc_now() + timedelta(seconds=20)).isoformat()), FEEDS, LEASE
    )
    assert hint.due_in is not None
    assert timedelta(seconds=15) < hint.due_in <= timedelta(seconds=20)
    assert message_of(hint, "poll")["headers"]["expires"] is None


def test_only_what_was_looked_at_reaches_celery() -> None:
    message = sent("deliver", **HINT)
    message["headers"] |= {
        "timelimit": ["x"],
        "retries": {},
        "group": "g",
        "argsrepr": "\x1b[31m" * 999,
        "evil": 1,
    }
    message["properties"] |= {"reply_to": {"a": 1}, "delivery_info": 7, "delivery_tag": []}
    made = message_of(read(raw(message), FEEDS, LEASE), "deliver")
    assert made["headers"]["timelimit"] == [None, None]
    assert (made["headers"]["retries"], made["headers"]["group"]) == (0, None)
    assert "evil" not in made["headers"]
    assert made["properties"]["delivery_info"] == {"exchange": "", "routing_key": "deliver"}
    assert isinstance(made["properties"]["delivery_tag"], str)


def test_a_trace_goes_on_and_nothing_else_of_its_kind() -> None:
    message = sent("deliver", **HINT)
    message["headers"] |= {"traceparent": "00-aa-bb-01", "tracestate": {"x": 1}}
    assert read(raw(message), FEEDS, LEASE).trace == {"traceparent": "00-aa-bb-01"}


def test_each_message_is_counted_and_the_log_is_told_once() -> None:
    drops = Drops()
    with capture_logs() as lines:
        for _ in range(1000):
            drops.note(b"\x1b[31m\n", "deliver", Dropped("not_json", "what"))
        drops.note(b"", "deliver", Dropped("expired"))
    assert drops.counts == {"not_json": 1000, "expired": 1}
    (line,) = lines
    assert (line["event"], line["reason"], line["queue"]) == (
        "message_dropped",
        "not_json",
        "deliver",
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: None,
        lambda _: [],
        lambda _: {},
        lambda m: {**m, "properties": []},
        lambda m: {**m, "headers": "x"},
        lambda m: {**m, "body": None},
        lambda m: {**m, "content-type": "application/x-python-serialize"},
        lambda m: {**m, "headers": {"compression": "application/x-gzip"}},
        lambda m: {**m, "properties": {"delivery_tag": {}, "delivery_info": {}}},
    ],
)
def test_remote_control_is_looked_at_too(spoil: Callable[[Message], object]) -> None:
    good = sent("deliver", **HINT)
    assert is_control_message(good)
    assert not is_control_message(spoil(good))
