"""kombu's Redis transport, as ours: whatever is in Redis, messages of ours come through, and a
queue stays a queue.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Exchange, Queue
from kombu.message import Message

import config
from app.broker.depths import ASIDE, Broker
from app.broker.queue import QUEUES
from app.core.errors import BrokerUnavailable
from tasks.application import RelayCelery, make_application
from tests.support.ledger import batch_of
from tests.unit.configuration.test_config import GOOD
from tests.unit.tasks.test_messages import JUNK

Messages = list[Message]


@pytest.fixture
def app(clean_redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RelayCelery:
    """Our application, on that Redis."""
    feeds = tmp_path / "feeds.toml"
    feeds.write_text(GOOD, encoding="utf-8")
    monkeypatch.setenv("FEEDS_FILE", str(feeds))
    monkeypatch.setenv("REDIS_URL", clean_redis_url)
    return make_application(config.load())


@pytest.fixture
def client(clean_redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(clean_redis_url) as client:
        yield client


@pytest.fixture
def consumed(app: RelayCelery) -> Iterator[tuple[Connection, Messages]]:
    """A connection that consumes all queues, and what it was given."""
    taken: Messages = []
    with (
        app.connection_for_read() as connection,
        connection.channel() as channel,
        app.amqp.TaskConsumer(channel, on_message=taken.append),
    ):
        yield connection, taken


def drain(
    connection: Connection, taken: Messages, count: int, until: Callable[[], bool] = lambda: False
) -> Messages:
    """Take what comes until there are so many messages, or something holds."""
    for _ in range(2000):
        if len(taken) >= count or until():
            break
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            continue
    return taken


def send(app: RelayCelery, batch: str = "orders-0123456789abcdef") -> None:
    app.send_task("deliver", kwargs={"batch": batch, "feed": "orders", "n": 1}, ignore_result=True)


def test_a_message_of_ours_comes_through_behind_every_kind_of_junk(
    app: RelayCelery, client: Any, consumed: tuple[Connection, Messages]
) -> None:
    from tasks.messages import drops

    before = drops.counts.total()
    for raw, _ in JUNK.values():
        if raw:
            client.lpush("deliver", raw)
    send(app)
    connection, taken = consumed
    (message,) = drain(connection, taken, 1)
    assert (message.headers["task"], message.payload[1]["feed"]) == ("deliver", "orders")
    assert drops.counts.total() - before == len(JUNK) - 1
    message.ack()
    assert client.keys("unacked*") == []


@pytest.mark.parametrize("kind", ["string", "hash", "set", "zset", "stream"])
@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_that_is_no_list_is_put_aside_and_work_goes_on(
    app: RelayCelery, client: Any, consumed: tuple[Connection, Messages], kind: str, queue: str
) -> None:
    put(client, queue, kind)
    send(app)
    connection, taken = consumed
    assert drain(connection, taken, 1)[0].headers["task"] == "deliver"
    drain(connection, taken, 2, until=lambda: client.type(queue) != kind.encode())
    assert client.type(queue) in (b"list", b"none")
    assert client.type(ASIDE + queue) == kind.encode()
    assert client.ttl(ASIDE + queue) > 0


@pytest.mark.parametrize("exchange", [*QUEUES, "celery.pidbox"])
def test_a_binding_that_is_no_set_keeps_no_worker_from_starting(
    app: RelayCelery, client: Any, exchange: str
) -> None:
    put(client, f"_kombu.binding.{exchange}", "string")
    with app.connection_for_read() as connection, connection.channel() as channel:
        Queue(exchange, Exchange(exchange), routing_key=exchange, channel=channel).declare()
    assert client.type(f"_kombu.binding.{exchange}") == b"set"


def test_the_queue_is_written_and_measured_though_another_program_uses_its_name(
    app: RelayCelery, client: Any
) -> None:
    put(client, "deliver", "hash")
    assert app.queue._depth() == 0
    put(client, "deliver", "hash")
    app.queue._publish([batch_of(1)])
    assert client.llen("deliver") == 1


async def test_what_watches_from_outside_tells_of_it(client: Any, clean_redis_url: str) -> None:
    broker = Broker(clean_redis_url, timedelta(seconds=5))
    try:
        put(client, "deliver", "string")
        client.rpush("poll", "x")
        client.set(ASIDE + "maintenance", "theirs")
        assert await broker.depths(QUEUES) == {"poll": 1, "deliver": 0, "maintenance": 0}
        found = await broker.misused(QUEUES)
        assert found.keys() == {"deliver", "maintenance"}
        assert "not a list" in found["deliver"]
    finally:
        await broker.close()


def test_what_a_worker_ends_with_goes_back(app: RelayCelery, client: Any) -> None:
    send(app)
    taken: Messages = []
    with app.connection_for_read() as connection:
        channel: Any = connection.channel()
        with app.amqp.TaskConsumer(channel, on_message=taken.append):
            drain(connection, taken, 1)
            assert client.llen("deliver") == 0
        channel.close()
    assert client.llen("deliver") == 1


@pytest.mark.parametrize(
    "payload", [b"\xff\xfe", b"42", b"[]", b"{}", b"[" * 5000, b"x" * 2_000_000, b'{"body": 1}']
)
def test_junk_on_the_channel_of_remote_control_is_dropped(
    app: RelayCelery, client: Any, payload: bytes
) -> None:
    taken: Messages = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        box = Queue(
            "box", Exchange("celery.pidbox", type="fanout"), exclusive=True, auto_delete=True
        )
        with connection.Consumer(box, channel=channel, on_message=taken.append, no_ack=True):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.2)
            client.publish("/0.celery.pidbox", payload)
            with connection.channel() as other, connection.Producer(other) as producer:
                producer.publish(
                    {"method": "ping"}, exchange="celery.pidbox", routing_key="", serializer="json"
                )
            assert len(drain(connection, taken, 1)) == 1


def test_a_queue_full_of_hints_for_batches_that_are_gone_is_cleared_in_a_moment(
    app: RelayCelery, client: Any
) -> None:
    from tasks.sifting import ASKED_AT_ONCE, sift

    send(app)
    (raw,) = client.lrange("deliver", 0, -1)
    client.delete("deliver")
    for start in range(0, 3000, 500):
        client.lpush("deliver", *gone_hints(raw, start))
    client.lpush("deliver", raw, raw, b"junk", b"x" * 100_000)
    asked: list[int] = []

    def existing(batches: Any) -> set[str]:
        names = set(batches)
        asked.append(len(names))
        return names & {"orders-0123456789abcdef"}

    sifted = sift(client, existing, app.loaded.feeds, app.loaded.settings.lease)
    assert (sifted.taken, sifted.kept) == (3004, 1)
    assert client.lrange("deliver", 0, -1) == [raw]
    assert len(asked) == -(-3004 // ASKED_AT_ONCE)


async def test_a_broker_that_refuses_is_unavailable(clean_redis_url: str) -> None:
    wrong = clean_redis_url.replace("redis://", "redis://nobody:x@")
    broker = Broker(wrong, timedelta(seconds=5))
    try:
        with pytest.raises(BrokerUnavailable):
            await broker.depths(QUEUES)
    finally:
        await broker.close()


def put(client: Any, key: str, kind: str) -> None:
    """Keep something of that kind under a key."""
    client.delete(key)
    match kind:
        case "string":
            client.set(key, "theirs")
        case "hash":
            client.hset(key, "a", "b")
        case "set":
            client.sadd(key, "a")
        case "zset":
            client.zadd(key, {"a": 1})
        case _:
            client.xadd(key, {"a": "b"})


def gone_hints(raw: bytes, start: int) -> list[bytes]:
    """Five hundred hints for batches that were never there, made of one that was."""
    message = json.loads(raw)
    args, kwargs, embedded = json.loads(base64.b64decode(message["body"]))
    made = []
    for number in range(start, start + 500):
        kwargs["batch"] = f"orders-{number:016x}"
        message["body"] = base64.b64encode(json.dumps([args, kwargs, embedded]).encode()).decode()
        made.append(json.dumps(message).encode())
    return made
