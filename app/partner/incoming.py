"""One answer as it comes in: interim answers, head, body; each bounded in number and bytes.

No input or output, and no clock: bytes are fed, and it says when no more are wanted. What a status
that arrived is worth when the rest does not come is decided here too (`ends`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from app.partner.head import STATUS_LINE, Framing, Head, parse_head

HEAD_LIMIT = 2**16
"""Bytes of heads read for one answer, interim ones included."""

INTERIM_LIMIT = 16
"""Interim answers (1xx) before the one that counts: a `100 Continue` and a few early hints are
usual.
"""

READ_ON_LIMIT = 2**16
"""Bytes of a body that are read beyond those kept, so that the connection can be used again."""

RAW_LIMIT = 2**20
"""Bytes read after the head, whatever becomes of them: a chunk of one byte may come with kilobytes
around it.
"""

_CHUNK_LINE_LIMIT: Final = 4096
_TRAILER_LIMIT: Final = 2**13
_BLANK_LINES: Final = 4
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LINE_END: Final = re.compile(rb"\r?\n")
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{0,15})[ \t]*(?:;[^\n]*)?\r?")
_START: Final = b"HTTP/1."


class Malformed(Exception):
    """What came is not an answer. The text is one line, and quotes nothing of what came."""


class Incoming:
    """Reads one answer, of whose body `limit` bytes are kept."""

    __slots__ = (
        "_at", "_body", "_bound", "_came", "_heads", "_interims", "_limit", "_missing", "_raw", "_scanned", "_step",
        "_taken", "complete", "head", "note", "spoiled",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._raw = b""
        self._at = 0
        """Up to here `_raw` is understood."""
        self._scanned = 0
        """Up to here it was searched for the end of the head."""
        self._step: Callable[[], bool] = self._read_head
        self._heads = self._interims = self._came = self._taken = self._missing = 0
        self._bound = limit + READ_ON_LIMIT
        self._body: bytes | bytearray = b""
        self.head: Head | None = None
        self.complete = False
        """No more of the answer is wanted."""
        self.spoiled = False
        """The connection cannot be used again: more came than the answer, or its end was not
        reached.
        """
        self.note: str | None = None
        """What of the answer was not as it should be, where the status counts all the same."""

    @property
    def body(self) -> bytes:
        """The start of the body, chunks joined, in the coding it came in: at most `limit` bytes."""
        return bytes(self._body)

    @property
    def heard(self) -> bool:
        """Whether a byte has come."""
        return bool(self._raw or self._heads)

    @property
    def kept(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and not self.spoiled and self.head is not None and self.head.kept

    @property
    def ends_with_quiet(self) -> bool:
        """Its end cannot be told by what comes, or is there but for a line end: when no more comes,
        that was it.
        """
        head = self.head
        return head is not None and (
            head.framing is Framing.CONTRADICTORY or self._step == self._read_trailers
        )

    def feed(self, data: bytes) -> bool:
        """Take bytes. True: no more are wanted. Raises `Malformed`."""
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
        """Nothing more comes. True: the answer counts as far as it came.

        A status other than 2xx does as soon as its head is there. A success counts where nothing
        that was announced is missing, or as much of the body came as is kept: a partner that breaks
        off before may not have finished. `in_order`: not by an error, so a body that ends with the
        connection is whole.
        """
        head = self.head
        self.spoiled = True
        if head is None:
            return False
        ended = (
            self.complete or self.ends_with_quiet or (in_order and head.framing is Framing.CLOSE)
        )
        return ended or not 200 <= head.status <= 299 or len(self._body) >= self._limit

    # Each step takes what it understands of `_raw` from `_at` on. False: it needs more, or wants no
    # more.

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
        """Stray line ends before a status line, as some servers leave behind a body."""
        while self._heads < 2 * _BLANK_LINES and self._raw.startswith(b"\r\n", self._at):
            self._at += 2
            self._heads += 2

    def _look_at_start(self) -> None:
        """What cannot become HTTP is not waited for."""
        start = self._raw[self._at : self._at + len(_START)]
        whole_line = b"\n" in self._raw[self._at :]
        if (start.upper() != _START[: len(start)] and start != b"\r") or (
            whole_line and not STATUS_LINE.match(self._raw, self._at)
        ):
            raise Malformed("the answer is not HTTP/1")

    def _cut_head(self, head: Head) -> bool:
        """The head goes on beyond our bound. Its status came first, and counts."""
        if head.status < 200:
            raise Malformed(
                f"interim answers of over {HEAD_LIMIT} bytes, which is as much as is read"
            )
        self.head = head
        return self._stop(
            f"the answer's head is over {HEAD_LIMIT} bytes, which is as much as is read"
        )

    def _stop(self, note: str) -> bool:
        """Read no further. The status stands."""
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
            ):  # the usual answer, all in one piece
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
        """Nothing in them is used. The body has ended, so they may also break off."""
        end = _LINE_END.match(self._raw, self._at) or _HEAD_END.search(self._raw, self._at)
        if end:
            self._at, self.complete = end.end(), True
        elif len(self._raw) - self._at > _TRAILER_LIMIT:
            self._stop(
                f"the answer's trailers are over {_TRAILER_LIMIT} bytes, which is as much as is read"
            )
        return False

    def _take_as_it_is(self) -> bool:
        """Chunks are announced, and none come: the status stands, the end of the body cannot be
        told.
        """
        assert self.head is not None  # noqa: S101  chunks come after a head
        self.head.framing, self._step, self.spoiled = Framing.CONTRADICTORY, self._read_rest, True
        self.note = "the answer's body is not in the chunks that its head announces"
        return True

    def _take_missing(self) -> None:
        """Take what came of the bytes that are missing; keep of it what is wanted of the body."""
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
