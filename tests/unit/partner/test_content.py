"""What an answer says comes out of its wrapping, within its bound; what cannot be read says why."""

from __future__ import annotations

import gzip
import random
import sys
import zlib

import pytest

from app.partner.content import Unreadable, unwrapped
from app.partner.head import Fields

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = '{"by":"Zoë"}'
BODY = TEXT.encode()
ZEROS = bytes(2**22)


def fields(**named: str) -> Fields:
    return Fields(
        "\n" + "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    )


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("X-GZIP", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY)[2:-4]),
        ("zstd", zstd.compress(BODY)),
        ("identity", BODY),
        ("deflate, gzip", gzip.compress(zlib.compress(BODY), mtime=0)),
    ],
)
def test_each_coding_is_unpacked(coding: str, packed: bytes) -> None:
    assert unwrapped(fields(content_encoding=coding), packed, 2048) == BODY


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(ZEROS, mtime=0)),
        ("deflate", zlib.compress(ZEROS)),
        ("zstd", zstd.compress(ZEROS)),
    ],
    ids=["gzip", "deflate", "zstd"],
)
def test_no_more_is_unpacked_than_asked_for(coding: str, packed: bytes) -> None:
    assert len(unwrapped(fields(content_encoding=coding), packed, 100)) == 100


def test_a_body_that_was_cut_off_gives_its_start() -> None:
    long = random.Random(0).randbytes(5000)
    assert long.startswith(
        found := unwrapped(
            fields(content_encoding="gzip"), gzip.compress(long, mtime=0)[:2048], 4096
        )
    )
    assert found


@pytest.mark.parametrize(
    ("coding", "told"),
    [
        ("br", "packed with br, which is not known"),
        ("gzip", "and is not"),
        ("zstd", "and is not"),
        ("a\tb", "a coding"),
    ],
)
def test_what_cannot_be_unpacked_says_why(coding: str, told: str) -> None:
    with pytest.raises(Unreadable, match=told):
        unwrapped(fields(content_encoding=coding), BODY, 2048)


def test_a_body_packed_time_and_again_is_not_unpacked() -> None:
    with pytest.raises(Unreadable, match="packed 9 times over"):
        unwrapped(fields(content_encoding=", ".join(["gzip"] * 9)), BODY, 2048)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (BODY, "application/json"),
        (b"\xef\xbb\xbf" + BODY, "application/json; charset=utf-8"),
        (TEXT.encode("latin-1"), 'application/json; Charset="ISO-8859-1"'),
        (TEXT.encode("cp1252"), "application/json;charset=windows-1252"),
        (TEXT.encode("utf-16"), "application/json"),
        (TEXT.encode("utf-32"), "application/json"),
        (TEXT.encode("utf-16-le"), "application/json; charset=utf-16le"),
        (BODY, "application/json; charset=rot13"),
        (BODY, "application/json; charset=x-none"),
    ],
)
def test_each_charset_becomes_utf8(body: bytes, kind: str) -> None:
    assert unwrapped(fields(content_type=kind), body, 2048) == BODY
