"""One answer as it comes in: interim answers, head, body; each bounded in number and bytes.

Does no I/O and knows no clock: it is fed bytes, and says when it wants no more. It also decides
whether a status counts when the rest of its answer never arrives (`ends`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from app.partner.head import STATUS_LINE, Framing, Head, parse_head

HEAD_LIMIT = 2**16
"""Bytes of heads read for one answer, interim ones included."""

INTERIM_LIMIT = 16
"""Interim answers (1xx) before the final one: a `100 Continue` and a few early hints are usual."""

READ_ON_LIMIT = 2**16
"""Bytes of a body that are read beyond those kept, so that the connection can be reused."""

RAW_LIMIT = 2**20
"""Bytes read after the head, framing included: a chunk of one byte may be wrapped in kilobytes."""

_CHUNK_LINE_LIMIT: Final = 4096
_TRAILER_LIMIT: Final = 2**13
_BLANK_LINES: Final = 4
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LINE_END: Final = re.compile(rb"\r?\n")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{0,15})[ \t]*(?:;[^\n]*)?\r?")
_START: Final = b"HTTP/1."


class Malformed(Exception):
    """What arrived is not an HTTP answer. The text is one line, and quotes none of it."""


class Incoming:
    """Reads one answer, and keeps `limit` bytes of its body."""

    __slots__ = (
        "_at", "_body", "_bound", "_came", "_heads", "_interims", "_limit", "_missing", "_raw", "_scanned", "_step",
        "_taken", "complete", "head", "note", "spoiled",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._raw = b""
        self._at = 0
        """`_raw` is parsed up to here."""
        self._scanned = 0
        """And searched for the end of the head up to here."""
        self._step: Callable[[], bool] = self._read_head
        self._heads = self._interims = self._came = self._taken = self._missing = 0
        self._bound = limit + READ_ON_LIMIT
        self._body: bytes | bytearray = b""
        self.head: Head | None = None
        self.complete = False
        """No more of the answer is wanted."""
        self.spoiled = False
        """The connection cannot be reused: more than the answer arrived, or its end did not."""
        self.note: str | None = None
        """What was wrong with the answer, where its status counts all the same."""

    @property
    def body(self) -> bytes:
        """The start of the body, chunks joined, in its content coding: at most `limit` bytes."""
        return bytes(self._body)

    @property
    def heard(self) -> bool:
        """Whether any byte has arrived."""
        return bool(self._raw or self._heads)

    @property
    def kept(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and not self.spoiled and self.head is not None and self.head.kept

    @property
    def ends_with_quiet(self) -> bool:
        """Nothing marks the end of the answer, or only a final line end is missing: silence
        ends it.
        """
        head = self.head
        return head is not None and (
            head.framing is Framing.CONTRADICTORY or self._step == self._read_trailers
        )

    def feed(self, data: bytes) -> bool:
        """Take bytes. Returns whether the answer is complete. Raises `Malformed`."""
        if self.head is not None:
            self._came += len(data)
        self._raw = self._raw + data if self._raw else data
        while not self.complete and self._step():
            pass
        if not self.complete and self._came > RAW_LIMIT:
            self._stop(f"the answer goes on after {RAW_LIMIT} bytes, which is as much as is read")
        if self._at:
            self._raw = self._raw[self._at :]
            self._at = 0
        self.spoiled = self.spoiled or (self.complete and bool(self._raw))
        return self.complete

    def ends(self, *, in_order: bool) -> bool:
        """Nothing more will arrive. Returns whether the answer counts as it is.

        A status other than 2xx counts once its head is complete. A 2xx counts where nothing that
        was announced is missing, or as much of the body arrived as is kept: a partner that breaks
        off earlier may not have finished. `in_order`: the connection was closed without an error,
        so a body that ends with the connection is complete.
        """
        head = self.head
        self.spoiled = True
        if head is None:
            return False
        ended = (
            self.complete or self.ends_with_quiet or (in_order and head.framing is Framing.CLOSE)
        )
        return ended or not 200 <= head.status <= 299 or len(self._body) >= self._limit

    # Each step consumes what it can parse of `_raw` from `_at` on. It returns False when it needs
    # more bytes, or wants no more.

    def _read_head(self) -> bool:
        if not self._at:
            self._skip_blank_lines()
        end = _HEAD_END.search(self._raw, max(self._at, self._scanned - 2))
        stop = end.end() if end else len(self._raw)
        over = self._heads + stop - self._at > HEAD_LIMIT
        if end is None and not over:
            self._scanned = stop - self._at
            self._look_at_start()
            return False
        head = parse_head(self._raw[self._at : end.start() + 1 if end else stop])
        if head is None:
            raise Malformed("the answer is not HTTP/1")
        self._heads += stop - self._at
        self._at, self._scanned = stop, 0
        if over:
            return self._cut_head(head)
        return self._skip_interim(head) if head.status < 200 else self._begin_body(head)

    def _skip_blank_lines(self) -> None:
        """Stray line ends before the status line, as some servers send after a body."""
        while self._heads < 2 * _BLANK_LINES and self._raw.startswith(b"\r\n", self._at):
            self._at += 2
            self._heads += 2

    def _look_at_start(self) -> None:
        """Fail at once where no more bytes could make it HTTP."""
        start = self._raw[self._at : self._at + len(_START)]
        whole_line = b"\n" in self._raw[self._at :]
        if (start.upper() != _START[: len(start)] and start != b"\r") or (
            whole_line and not STATUS_LINE.match(self._raw, self._at)
        ):
            raise Malformed("the answer is not HTTP/1")

    def _cut_head(self, head: Head) -> bool:
        """The head exceeds our bound. Its status came first, and counts."""
        if head.status < 200:
            raise Malformed(
                f"interim answers of over {HEAD_LIMIT} bytes, which is as much as is read"
            )
        self.head = head
        return self._stop(
            f"the answer's head is over {HEAD_LIMIT} bytes, which is as much as is read"
        )

    def _stop(self, note: str) -> bool:
        """Read no further. The status counts."""
        self.note = note
        self.complete = self.spoiled = True
        return False

    def _skip_interim(self, head: Head) -> bool:
        self._interims += 1
        if head.status == 101:
            raise Malformed("the answer is 101: another protocol, which nobody asked for")
        if self._interims > INTERIM_LIMIT:
            raise Malformed(
                f"over {INTERIM_LIMIT} interim answers (1xx), which is as many as are read"
            )
        return True

    def _begin_body(self, head: Head) -> bool:
        self.head = head
        self._came = len(self._raw) - self._at
        match head.framing:
            case Framing.LENGTH if (
                head.length == self._came <= self._limit
            ):  # the usual answer, in one piece
                self._body, self._at, self.complete = self._raw[self._at :], len(self._raw), True
            case Framing.LENGTH:
                self._missing, self._step = head.length, self._read_length
                if head.length > self._bound:
                    self._bound = self._limit  # not worth reading on
            case Framing.CHUNKED:
                self._step = self._read_chunk_size
            case Framing.CLOSE | Framing.CONTRADICTORY:
                self._step = self._read_rest
        return not self.complete

    def _read_length(self) -> bool:
        self._take_missing()
        self.complete = self.complete or not self._missing
        return False

    def _read_rest(self) -> bool:
        self._missing = len(self._raw) - self._at
        self._take_missing()
        return False

    def _read_chunk_size(self) -> bool:
        end = self._raw.find(b"\n", self._at, self._at + _CHUNK_LINE_LIMIT)
        stop = end if end >= 0 else len(self._raw)
        size = _CHUNK_SIZE.fullmatch(self._raw, self._at, stop)
        if size is None or stop - self._at > _CHUNK_LINE_LIMIT or not (size[1] or end < 0):
            return self._take_as_it_is()
        if end < 0:
            return False
        self._at, self._missing = end + 1, int(size[1], 16)
        self._step = self._read_chunk if self._missing else self._read_trailers
        return True

    def _read_chunk(self) -> bool:
        self._take_missing()
        if self._missing:
            return False
        self._step = self._read_chunk_end
        return not self.complete

    def _read_chunk_end(self) -> bool:
        end = _LINE_END.match(self._raw, self._at)
        if end is None and len(self._raw) - self._at < 2:
            return False
        self._at, self._step = end.end() if end else self._at, self._read_chunk_size
        return True

    def _read_trailers(self) -> bool:
        """Trailers are ignored. The body has ended, so they may also break off."""
        end = _LINE_END.match(self._raw, self._at) or _HEAD_END.search(self._raw, self._at)
        if end:
            self._at, self.complete = end.end(), True
        elif len(self._raw) - self._at > _TRAILER_LIMIT:
            self._stop(
                f"the answer's trailers are over {_TRAILER_LIMIT} bytes, which is as much as is read"
            )
        return False

    def _take_as_it_is(self) -> bool:
        """Chunks were announced and none arrived: the status counts, but nothing marks the end of
        the body.
        """
        assert self.head is not None  # noqa: S101  chunks come after a head
        self.head.framing, self._step, self.spoiled = Framing.CONTRADICTORY, self._read_rest, True
        self.note = "the answer's body is not in the chunks that its head announces"
        return True

    def _take_missing(self) -> None:
        """Consume what has arrived of the missing bytes, and keep up to `limit` of the body."""
        came = min(self._missing, len(self._raw) - self._at)
        if (room := self._limit - len(self._body)) > 0:
            if isinstance(self._body, bytes):
                self._body = bytearray()
            self._body += self._raw[self._at : self._at + min(came, room)]
        self._at += came
        self._missing -= came
        self._taken += came
        if self._taken > self._bound:
            self.complete = self.spoiled = True


class HeadIncoming(Incoming):
    """Reads the answer to a HEAD: no body follows, whatever is announced (RFC 9110, section 9.3.2)."""

    __slots__ = ()

    def _begin_body(self, head: Head) -> bool:
        self.head, self.complete = head, True
        return False
