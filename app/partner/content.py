"""Unpacks an answer's body, within a bound, to UTF-8 without a byte order mark."""

from __future__ import annotations

import codecs
import re
import sys
import zlib
from collections.abc import Callable

from app.partner.head import Fields, codings_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:+-]+)""", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ANY_MARK = tuple(mark for mark, _ in _MARKS)
_MOST_CODINGS = 3
"""Codings around one body. Each is unpacked within the bound, so this bounds the work."""


class Unreadable(Exception):
    """A body that cannot be unpacked. The text says why, in a few words."""


def unwrapped(fields: Fields, body: bytes, limit: int) -> bytes:
    """The text of a body in UTF-8, of at most `limit` bytes when unpacked. A body that was cut off
    gives its start.

    Takes the fields of the answer's head and the body as it came. Raises `Unreadable` for a coding
    that is not known, and for bytes that are not in it. Letters that are not in the charset become
    replacement characters.
    """
    codings = codings_of(fields)
    if len(codings) > _MOST_CODINGS:
        raise Unreadable(f"the answer is packed {len(codings)} times over")
    for coding in codings:
        body = _unpacked(coding, body, limit)
    return _as_utf8(fields, body)


def _unpacked(coding: str, body: bytes, limit: int) -> bytes:
    unpack = _UNPACKING.get(coding)
    if unpack is None:
        raise Unreadable(f"the answer is packed with {_shown(coding)}, which is not known here")
    try:
        return unpack(body, limit) if body else body
    except (zlib.error, zstd.ZstdError) as error:
        raise Unreadable(f"the answer says that it is packed with {coding}, and is not") from error


def _gzip(body: bytes, limit: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    """With zlib's frame (RFC 9110, section 8.4.1.2), or without, as some servers send it."""
    try:
        return zlib.decompressobj().decompress(body, limit)
    except zlib.error:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, limit)


def _zstd(body: bytes, limit: int) -> bytes:
    return bytes(zstd.ZstdDecompressor(options=_ZSTD_BOUNDS).decompress(body, limit))


_ZSTD_BOUNDS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB, as RFC 9659 bounds it for the web."""

_UNPACKING: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _as_utf8(fields: Fields, body: bytes) -> bytes:
    if body.startswith(_ANY_MARK):
        mark, charset = next(one for one in _MARKS if body.startswith(one[0]))
        body = body[len(mark) :]
        return body if charset == "utf-8" else _recoded(body, charset)
    named = _CHARSET.search(fields.get("content-type") or "")
    return (
        _recoded(body, named[1])
        if named and named[1].lower() not in ("utf-8", "utf8", "us-ascii")
        else body
    )


def _recoded(body: bytes, charset: str) -> bytes:
    """From a charset to UTF-8. One that nobody knows is left alone: what comes is most likely UTF-8
    all the same.
    """
    try:
        return body.decode(charset, "replace").encode("utf-8", "replace")
    except (LookupError, ValueError):  # `ValueError`: of a codec that is none for text
        return body


def _shown(coding: str) -> str:
    return coding if re.fullmatch(r"[a-z0-9_-]{1,20}", coding) else "a coding"
