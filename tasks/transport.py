"""kombu's Redis transport, which outlives whatever is in Redis. See
docs/decisions/0039-messages-are-hints.md.

- A message is read by `tasks.messages` before kombu and Celery see it. One that is none is dropped.
- A key of ours that holds something else than we keep there is put aside, and what was to be done
  with it is done.
- No message is kept until it is acknowledged: the ledger knows what is owed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from queue import Empty
from types import MappingProxyType
from typing import Any

import structlog
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.broker.depths import ASIDE
from app.broker.queue import QUEUES
from app.core.clock import LEASE_LIMIT
from app.feeds.feed import Feed
from tasks.messages import Dropped, drops, is_control_message, message_of, read

log = structlog.get_logger()

ASIDE_SECONDS = 7 * 86400
"""How long it is kept there."""
CONTROL_LIMIT = 1024 * 1024
"""Bytes of a message of Celery's remote control."""
_WRONG_TYPE = "WRONGTYPE"
_PERMANENT, _DEADLINES = "_kombu.binding_permanent.%s", "_kombu.binding_deadlines"


_QoS: Any = virtual.QoS
_Channel: Any = redis.Channel
"""The stubs know little of what these do for those who derive from them."""


class QoS(_QoS):  # type: ignore[misc] # see above
    """Which messages this process has in hand. Those that it ends with go back to the queue, where
    Redis takes them.
    """

    def restore_unacked(self) -> list[Any]:
        """Put them back. One that cannot be is sent again by the sweep."""
        self._flush()
        delivered = self._delivered
        try:
            while delivered:
                self.channel.put_back(delivered.popitem(last=False)[1])
        except Exception as error:  # noqa: BLE001 - whatever Redis or a closed channel says
            log.debug("hints_not_put_back", messages=len(delivered) + 1, kind=type(error).__name__)
        delivered.clear()
        return []


class Channel(_Channel):  # type: ignore[misc] # see above
    """Reads with care."""

    feeds: Mapping[str, Feed] = MappingProxyType({})
    lease: timedelta = LEASE_LIMIT
    """By which a message is known for one of ours: see `tasks.messages.read`."""
    from_transport_options = (*_Channel.from_transport_options, "feeds", "lease")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = QoS

    # --- reading

    def _brpop_read(self, **options: Any) -> bool:
        """As kombu's, but for what it raises of a message or of a key. Raises `Empty`, or that the
        connection is lost.

        What else Redis refuses (it is a replica now, say) may pass: it is asked again over another
        connection.
        """
        try:
            found = self._answered(options)
            if not found:
                raise Empty
            queue = bytes_to_str(found[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            message = self._readable(found[1], queue)
            if message is not None:
                self.connection.take(message, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _answered(self, options: dict[str, Any]) -> Any:
        client = self.client
        try:
            return client.parse_response(client.connection, "BRPOP", **options)
        except self.connection_errors:
            client.connection.disconnect()
            raise
        except ResponseError as error:
            if _WRONG_TYPE not in str(error):
                client.connection.disconnect()
                raise RedisConnectionError(
                    f"Redis refuses to be asked for work: {error}"
                ) from error
            self._put_aside(self._lists(self.active_queues))
            return None

    def _readable(self, raw: bytes, queue: str) -> Any:
        """The message for Celery; `None`: it was none, is counted, and was said."""
        try:
            if queue in QUEUES:
                return message_of(read(raw, self.feeds, self.lease), queue)
            return _control(raw)
        except Dropped as why:
            drops.note(raw, queue, why)
            return None

    def _receive_one(self, c: Any) -> bool | None:
        """As kombu's: one message of Celery's remote control. One that is none is dropped."""
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(response, list | tuple):
            return None
        payload = self._handle_message(c, response)
        if not bytes_to_str(payload["type"]).endswith("message") or not payload["data"]:
            return None
        channel = bytes_to_str(payload["channel"])
        exchange = (channel.partition(".")[2] if channel.startswith("/") else channel).split(
            "/", 1
        )[0]
        return self._controlled(payload["data"], exchange)

    def _controlled(self, data: bytes, exchange: str) -> bool:
        """Hand it on. Raises `Empty` for what is none, and that the connection is lost."""
        try:
            return bool(self._deliver_fanout_message(_control(data), exchange))
        except Dropped as why:
            drops.note(data, exchange, why)
        except Exception as error:
            if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                raise
            drops.note(data, exchange, Dropped("control", type(error).__name__))
        raise Empty

    # --- writing, and asking

    def put_back(self, message: Any) -> None:
        """Put a message that this process does not work at any more back to the queue."""
        self._restore(message)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> Any:
        return self._with(self._lists([queue]), super()._put, queue, message, **kwargs)

    def _size(self, queue: str) -> int:
        return int(self._with(self._lists([queue]), super()._size, queue))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> Any:
        return self._with(
            _bindings(exchange), super()._queue_bind, exchange, routing_key, pattern, queue
        )

    def get_table(self, exchange: str) -> Any:
        """Which queues are bound to an exchange."""
        return self._with(_bindings(exchange), super().get_table, exchange)

    def _with(
        self, keys: Mapping[str, bytes], ask: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Ask; where one of the keys is of another kind than it must be, put it aside, and ask
        again.
        """
        try:
            return ask(*args, **kwargs)
        except ResponseError as error:
            if _WRONG_TYPE not in str(error):
                raise
            self._put_aside(keys)
            return ask(*args, **kwargs)

    def _lists(self, queues: Iterable[str]) -> dict[str, bytes]:
        return {
            self._q_for_pri(queue, step): b"list"
            for queue in queues
            for step in self.priority_steps
        }

    def _put_aside(self, keys: Mapping[str, bytes]) -> None:
        """Rename those of the keys that are of another kind. Nothing is lost: what was to be there
        is in the ledger.
        """
        with self.conn_or_acquire() as client:
            for key, kind in keys.items():
                found = client.type(key)
                if found in (kind, b"none"):
                    continue
                client.rename(key, ASIDE + key)
                client.expire(ASIDE + key, ASIDE_SECONDS)
                drops.counts["wrong_key"] += 1
                log.error(
                    "redis_key_put_aside", key=key, found=found.decode(), wanted=kind.decode(), aside=ASIDE + key,
                    do="another program writes to this Redis database: give it, or Rowrelay, one of its own",
                )  # fmt: skip


def _bindings(exchange: str) -> dict[str, bytes]:
    """The keys that kombu binds queues to an exchange by, and their kinds."""
    return {
        redis.Channel.keyprefix_queue % exchange: b"set",
        _PERMANENT % exchange: b"set",
        _DEADLINES: b"zset",
    }


class Transport(redis.Transport):
    """What `redis://` and `rediss://` mean to kombu: see `tasks/application.py`."""

    Channel: Any = Channel

    def take(self, message: dict[str, Any], queue: str) -> None:
        """Hand a message to whoever consumes the queue."""
        self._deliver(message, queue)


def _control(raw: bytes) -> Any:
    """A message of Celery's remote control (`celery inspect`, Flower), or an answer to one. Raises
    `Dropped`.
    """
    try:
        message = loads(bytes_to_str(raw)) if len(raw) <= CONTROL_LIMIT else None
    except (ValueError, RecursionError) as error:
        raise Dropped("control", type(error).__name__) from None
    if not is_control_message(message):
        raise Dropped("control", "no message of Celery's remote control")
    return message
