"""The table of manners: what partners do, and what a client must make of it (see `zoo`)."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from tests.support.zoo import (
    BRIEF,
    KNOWN,
    LIMIT,
    LOST,
    NEVER,
    NEXT,
    ROW,
    Behave,
    Manner,
    Visitor,
    drips,
    floods,
    says,
)

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 2\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"
ANSWER = SIZED + b"\r\n{}"
JSON = b'{"status":"ok","by":"Zo\xc3\xab"}'


def manners() -> Iterator[Manner]:
    """All of them."""
    yield from untidy_heads()
    yield from bounded_heads()
    yield from delimited_bodies()
    yield from wrapped_bodies()
    yield from interim_answers()
    yield from broken_answers()
    yield from early_answers()
    yield from slow_partners()
    yield from kept_connections()
    yield from refused_connections()
    yield from secure_partners()
    yield from requests_as_meant()


def _ok(name: str, answer: bytes, body: bytes | None = b"{}", **more: object) -> Manner:
    """An answer that is a success with the body `{}`."""
    return Manner(name, says(answer), "200", body, **more)  # type: ignore[arg-type] # passed through


def untidy_heads() -> Iterator[Manner]:
    """Heads that are not as RFC 9112 has them, and whose status is plain."""
    yield _ok("tidy", ANSWER)
    yield _ok("blank before a colon", OK + b"X-Foo : bar\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("blank before the length's colon", OK + b"Content-Length : 2\r\n\r\n{}")
    yield _ok("folded line", OK + b"X-Foo: bar\r\n  and more\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("bare line feeds", ANSWER.replace(b"\r\n", b"\n"))
    yield _ok("bare line feeds in part", OK + b"X-Foo: bar\nContent-Length: 2\r\n\r\n{}")
    yield _ok("status line without a reason", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok(
        "status line with a blank for a reason", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}"
    )
    yield _ok("blanks in the status line", b"HTTP/1.1  200  OK\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("lower-case http/1.1", ANSWER.replace(b"HTTP", b"http", 1))
    yield _ok("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", rows=1)
    yield _ok("HTTP/1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("NUL in a field", OK + b"X-Foo: a\x00b\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok(
        "letters beyond ASCII", OK + b"X-Foo: Zo\xeb \xe2\x98\x83\r\nContent-Length: 2\r\n\r\n{}"
    )
    yield _ok(
        "a reason beyond ASCII", b"HTTP/1.1 200 \xe2\x98\x83\xff\r\nContent-Length: 2\r\n\r\n{}"
    )
    yield _ok("line without a colon", OK + b"no field at all\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("field without a name", OK + b": bar\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("blank in a name", OK + b"X Foo: bar\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("line end before the status line", b"\r\n" + ANSWER)
    yield _ok("huge reason", b"HTTP/1.1 200 " + b"O" * 30_000 + b"\r\nContent-Length: 2\r\n\r\n{}")
    yield Manner("unknown 2xx", says(ANSWER.replace(b"200 OK", b"299 Fine", 1)), "299", b"{}")
    yield Manner(
        "status of four digits", says(ANSWER.replace(b"200", b"2000", 1), then="close"), LOST
    )
    yield Manner("HTTP/9.9", says(ANSWER.replace(b"1.1", b"9.9", 1), then="close"), LOST)
    yield Manner("a page in place of HTTP", says(b"<html>an error page</html>", then="close"), LOST)
    yield Manner("zeros", says(bytes(1000), then="close"), LOST)


def bounded_heads() -> Iterator[Manner]:
    """Large heads."""
    fields = b"".join(b"X-H%d: y\r\n" % number for number in range(498))
    yield _ok(
        "a field of 9 KB",
        OK + b"Content-Security-Policy: " + b"a" * 9000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    )
    yield _ok("150 fields", OK + fields[:1800] + b"\r\nContent-Length: 2\r\n\r\n{}")
    yield _ok("500 fields", OK + fields + b"Content-Length: 2\r\n\r\n{}")
    yield _ok("a head of 64 KB", OK + b"X: " + b"a" * 65_400 + b"\r\nContent-Length: 2\r\n\r\n{}")
    pieces = [bytes([byte]) for byte in ANSWER]
    yield Manner("a head in many pieces", says(*pieces, gap=0.001), "200", b"{}")
    yield Manner(
        "a head of 300 KB",
        says(OK + b"X: " + b"a" * 300_000 + b"\r\nContent-Length: 2\r\n\r\n{}"),
        "200",
    )
    yield Manner("an endless head", floods(OK, b"X: " + b"a" * 65_536 + b"\r\n"), "200")


def delimited_bodies() -> Iterator[Manner]:
    """Every way to tell where a body ends, and ways that do not tell."""
    yield _ok("chunks", CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n")
    yield _ok("chunks of a byte", CHUNKED + b"\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
    yield _ok("chunk extensions", CHUNKED + b'\r\n2;a=b;c="d"\r\n{}\r\n0;e\r\n\r\n')
    yield _ok("trailers", CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")
    yield _ok("blanks after a chunk's size", CHUNKED + b"\r\n2  \r\n{}\r\n0\r\n\r\n")
    yield _ok("chunks with bare line feeds", CHUNKED + b"\r\n2\n{}\n0\n\n")
    yield _ok(
        "length and chunks", SIZED + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    yield _ok("the same length twice", SIZED + b"Content-Length: 2\r\n\r\n{}")
    yield _ok("the same length twice in a line", OK + b"Content-Length: 2, 2\r\n\r\n{}")
    yield _ok("two lengths", SIZED + b"Content-Length: 3\r\n\r\n{}")
    yield _ok("a length that is none", OK + b"Content-Length: two\r\n\r\n{}")
    yield _ok("a negative length", OK + b"Content-Length: -1\r\n\r\n{}")
    yield _ok("transfer coding identity", SIZED + b"Transfer-Encoding: identity\r\n\r\n{}")
    yield Manner("until the connection closes", says(OK + b"\r\n{}", then="close"), "200", b"{}")
    yield Manner(
        "HTTP/1.0 until it closes", says(b"HTTP/1.0 200 OK\r\n\r\n{}", then="close"), "200", b"{}"
    )
    yield Manner(
        "no length, and never closed",
        says(OK + b"\r\n{}", then="hold"),
        "200",
        b"{}",
        seconds=BRIEF,
    )
    yield _ok("chunks announced and none sent", CHUNKED + b"\r\n{}")
    yield _ok("a last chunk without its line end", CHUNKED + b"\r\n2\r\n{}\r\n0\r\n")
    yield Manner(
        "never-ending trailers",
        floods(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n", b"X: " + b"a" * 65_536 + b"\r\n"),
        "200",
        b"{}",
    )
    yield Manner(
        "trailers that drip",
        drips(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n", b"X: a\r\n"),
        "200",
        b"{}",
        seconds=BRIEF,
    )
    yield Manner(
        "an endless body",
        floods(CHUNKED + b"\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
        "200",
        b"x" * LIMIT,
    )
    yield Manner(
        "an endless body without a length", floods(OK + b"\r\n", b"x" * 65_536), "200", b"x" * LIMIT
    )
    yield Manner(
        "a body of a terabyte",
        floods(OK + b"Content-Length: 1099511627776\r\n\r\n", b"x" * 65_536),
        "200",
        b"x" * LIMIT,
    )
    yield Manner(
        "chunks with more around them than in them",
        floods(CHUNKED + b"\r\n", b"1;" + b"y" * 4000 + b"\r\nx\r\n"),
        "200",
    )
    yield _ok("a body longer than its length", SIZED + b"\r\n{}<!-- and more -->")
    yield Manner("204", says(b"HTTP/1.1 204 No Content\r\n\r\n"), "204", b"")
    yield Manner(
        "204 with a length and no body",
        says(b"HTTP/1.1 204 No Content\r\nContent-Length: 20\r\n\r\n"),
        "204",
        b"",
    )
    yield Manner(
        "204 with a body",
        says(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"),
        "204",
        b"",
    )
    yield Manner(
        "205", says(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"), "205", b""
    )
    yield Manner(
        "205 in chunks",
        says(b"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "205",
        b"",
    )
    yield Manner(
        "304 with a length",
        says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"),
        "304",
        b"",
    )


def wrapped_bodies() -> Iterator[Manner]:
    """Bodies that must be unpacked to be read, though nobody asked for it."""
    packed = {
        "gzip": gzip.compress(JSON),
        "deflate": zlib.compress(JSON),
        "x-gzip": gzip.compress(JSON),
    }
    packed["Deflate"] = zlib.compress(JSON)[2:-4]  # raw, as some servers send it
    for coding, body in packed.items():
        yield _coded(f"content coding {coding}", body, b"Content-Encoding: " + coding.encode())
    zipped = gzip.compress(JSON)
    chunk = b"%x\r\n" % len(zipped) + zipped + b"\r\n0\r\n\r\n"
    yield Manner(
        "transfer coding gzip",
        says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk),
        "200",
        JSON,
    )
    yield _coded(
        "byte order mark", b"\xef\xbb\xbf" + JSON, b"Content-Type: application/json; charset=utf-8"
    )
    yield _coded(
        "Latin-1",
        JSON.decode().encode("latin-1"),
        b"Content-Type: application/json; charset=iso-8859-1",
    )
    yield _coded(
        "UTF-16 with a mark", JSON.decode().encode("utf-16"), b"Content-Type: application/json"
    )
    yield _coded("a charset nobody knows", JSON, b"Content-Type: application/json; charset=x-none")
    yield _coded(
        "gzip of Latin-1",
        gzip.compress(JSON.decode().encode("latin-1")),
        b"Content-Encoding: gzip\r\nContent-Type: a/b; charset=latin1",
    )
    bomb = gzip.compress(bytes(2**24))
    yield Manner(
        "a bomb",
        says(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb),
        "200",
        bytes(LIMIT),
    )
    yield _coded("not what its coding says", JSON, b"Content-Encoding: gzip", None)
    yield _coded("a coding that is not known", b"\x0b\x0b\x80{}\x03", b"Content-Encoding: br", None)
    yield Manner(
        "gzip of a 204",
        says(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"),
        "204",
        b"",
    )
    yield Manner(
        "gzip of nothing",
        says(OK + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"),
        "200",
        b"",
    )


def _coded(name: str, body: bytes, field: bytes, wanted: bytes | None = JSON) -> Manner:
    return Manner(
        name, says(OK + field + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body), "200", wanted
    )


def interim_answers() -> Iterator[Manner]:
    """1xx before the answer, and instead of it."""
    more = b"HTTP/1.1 100 Continue\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
    yield _ok("100 first", more + ANSWER)
    yield _ok("102 and 103 first", b"HTTP/1.1 102 Processing\r\n\r\n" + hints * 3 + ANSWER)
    yield Manner("100 and then nothing", says(more, then="hold"), LOST, seconds=BRIEF)
    yield Manner("endless 100", floods(more, more * 2000), LOST)
    yield Manner(
        "interim answers of megabytes",
        floods(hints, b"HTTP/1.1 103 H\r\nX: " + b"a" * 30_000 + b"\r\n\r\n"),
        LOST,
    )
    yield Manner(
        "101 that nobody asked for",
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", then="close"),
        LOST,
    )


def broken_answers() -> Iterator[Manner]:
    """Answers that break off. A refusal stands, a success may not have been finished."""
    refused = b"HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\nbecause"
    yield Manner("closed without an answer", says(then="close"), LOST)
    yield Manner("reset without an answer", says(then="reset"), LOST)
    yield Manner("closed in the status line", says(b"HTTP/1.1 20", then="close"), LOST)
    yield Manner("closed in the head", says(OK + b"Content-", then="close"), LOST)
    yield Manner("reset in the head", says(OK + b"Content-", then="reset"), LOST)
    yield Manner("closed after the head", says(SIZED + b"\r\n", then="close"), LOST)
    yield Manner("reset after the head", says(SIZED + b"\r\n", then="reset"), LOST)
    yield Manner(
        "closed in the body", says(OK + b"Content-Length: 9\r\n\r\n{}", then="close"), LOST
    )
    yield Manner("reset in a body without a length", says(OK + b"\r\n{}", then="reset"), LOST)
    yield Manner("closed in a chunk", says(CHUNKED + b"\r\n9\r\n{}", then="close"), LOST)
    yield Manner("closed between chunks", says(CHUNKED + b"\r\n2\r\n{}\r\n", then="close"), LOST)
    yield Manner(
        "closed after the last chunk",
        says(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n", then="close"),
        "200",
        b"{}",
    )
    yield Manner("a refusal that breaks off", says(refused, then="close"), "422", b"because")
    yield Manner("a refusal that is reset", says(refused, then="reset"), "422", b"because")
    yield Manner(
        "a refusal that is never finished",
        says(refused, then="hold"),
        "422",
        b"because",
        seconds=BRIEF,
    )


def early_answers() -> Iterator[Manner]:
    """Answers before the row was read."""
    large = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    async def unread(visitor: Visitor, answer: bytes) -> bool:
        await visitor.reader.readuntil(b"\r\n\r\n")
        await visitor.say(answer)
        await asyncio.Event().wait()
        return False

    yield Manner(
        "413 before the row is read",
        partial(unread, answer=large),
        "413",
        b"",
        early=True,
        large=True,
    )
    yield Manner(
        "200 before the row is read",
        partial(unread, answer=ANSWER),
        "200",
        b"{}",
        early=True,
        large=True,
    )
    yield Manner("a row that is read slowly", _reads_slowly, "200", b"{}", early=True, large=True)
    yield Manner("a large row", says(ANSWER), "200", b"{}", large=True)


async def _reads_slowly(visitor: Visitor) -> bool:
    head = await visitor.reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length")
    )
    while length > 0:
        length -= len(await visitor.reader.read(min(length, 200_000)))
        await asyncio.sleep(0.005)
    await visitor.say(ANSWER)
    return True


def slow_partners() -> Iterator[Manner]:
    """Partners that the deadline ends."""

    async def deaf(_visitor: Visitor) -> bool:
        await asyncio.Event().wait()
        return False

    yield Manner("silence after the row", says(then="hold"), LOST, seconds=BRIEF)
    yield Manner("silence before the row is read", deaf, LOST, early=True, seconds=BRIEF)
    yield Manner("a large row is not read", deaf, LOST, early=True, large=True, seconds=BRIEF)
    yield Manner("a head that drips", drips(OK, b"X: a\r\n"), LOST, seconds=BRIEF)
    yield Manner("a status line that drips", drips(b"HTTP/1.1 200 ", b"O"), LOST, seconds=BRIEF)
    yield Manner("a body that drips", drips(CHUNKED + b"\r\n", b"1\r\nx\r\n"), LOST, seconds=BRIEF)
    yield Manner(
        "a length that never comes",
        says(OK + b"Content-Length: 9\r\n\r\n{}", then="hold"),
        LOST,
        seconds=BRIEF,
    )
    yield Manner(
        "as if asked by HEAD",
        says(OK + b"Content-Length: 9\r\n\r\n", then="hold"),
        LOST,
        seconds=BRIEF,
    )
    yield Manner(
        "chunks that stop", says(CHUNKED + b"\r\n2\r\n{}\r\n", then="hold"), LOST, seconds=BRIEF
    )


def kept_connections() -> Iterator[Manner]:
    """Whether a connection serves again, and who gets which answer."""
    yield _ok("Connection: close, and not closed", SIZED + b"Connection: close\r\n\r\n{}")
    yield _ok("connection: Close among others", SIZED + b"connection: TE, Close\r\n\r\n{}")
    yield Manner(
        "Connection: close, and closed",
        says(SIZED + b"Connection: close\r\n\r\n{}", then="close"),
        "200",
        b"{}",
    )
    yield _ok(
        "HTTP/1.0 keep-alive",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    )
    yield Manner(
        "closed unsaid after the answer", says(ANSWER, then="close"), "200", b"{}", pause=KNOWN
    )
    yield Manner("closed with the next row unanswered", _closes_when_asked_again, LOST, before=1)
    yield Manner("reset with the next row unanswered", _resets_when_asked_again, LOST, before=1)
    yield _ok("two answers at once", ANSWER + b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
    yield Manner("a second answer later", _says_more_later, "200", b"{}", pause=KNOWN)
    yield _ok("a stray line end after the body", ANSWER + b"\r\n")
    yield Manner("half closed", _half_closes, "200", b"{}", pause=KNOWN)


async def _closes_when_asked_again(visitor: Visitor) -> bool:
    """The row comes on a connection that has served, and is read: nobody can tell whether it was
    worked at.
    """
    if visitor.keeper.rows == 1:
        return False
    await visitor.say(ANSWER)
    return True


async def _resets_when_asked_again(visitor: Visitor) -> bool:
    if visitor.keeper.rows == 1:
        visitor.reset()
        return False
    await visitor.say(ANSWER)
    return True


async def _says_more_later(visitor: Visitor) -> bool:
    await visitor.say(ANSWER)
    await visitor.say(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
    return True


async def _half_closes(visitor: Visitor) -> bool:
    await visitor.say(ANSWER)
    visitor.writer.write_eof()
    await asyncio.sleep(0.05)
    return False


def refused_connections() -> Iterator[Manner]:
    """Where no connection comes about, and where one does by a detour."""
    yield Manner("IPv6 only", says(ANSWER), "200", b"{}", host="::1", named="[::1]")
    yield Manner(
        "a name with an address that refuses", says(ANSWER), "200", b"{}", named="localhost"
    )
    yield Manner("nobody listens", says(ANSWER), NEVER, rows=0, named="127.0.0.9", after=False)
    yield Manner(
        "a name that does not exist",
        says(ANSWER),
        NEVER,
        rows=0,
        named="partner.invalid",
        after=False,
    )


def secure_partners() -> Iterator[Manner]:
    """TLS."""
    secure = partial(Manner, behave=says(ANSWER), named="localhost")
    yield secure(name="TLS", verdict="200", body=b"{}", tls="good")
    yield secure(
        name="TLS, an address as the name",
        verdict="200",
        body=b"{}",
        tls="address",
        named="127.0.0.1",
    )
    for name, tls in {
        "TLS for another name": "elsewhere",
        "TLS that has expired": "expired",
        "TLS that nobody vouches for": "stranger",
        "TLS too old": "old",
    }.items():
        yield secure(name=name, verdict=NEVER, rows=0, tls=tls, after=False)
    yield secure(name="mTLS", verdict="200", body=b"{}", tls="mutual", credentials="certified")
    yield secure(
        name="mTLS without a certificate", verdict=NEVER, rows=0, tls="mutual", after=False
    )
    yield secure(
        name="mTLS of TLS 1.2 without a certificate",
        verdict=NEVER,
        rows=0,
        tls="mutual 1.2",
        after=False,
    )
    yield secure(
        name="mTLS with a stranger's certificate",
        verdict=NEVER,
        rows=0,
        tls="mutual",
        credentials="strange",
        after=False,
    )
    yield Manner(
        "TLS promised, HTTP spoken",
        _speaks_plainly,
        NEVER,
        rows=None,
        early=True,
        after=False,
        scheme="https",
    )
    yield Manner(
        "TLS closed without saying so", _ends_beneath, "200", b"{}", tls="good", named="localhost"
    )
    yield Manner("an alert in the middle", _alerts, LOST, tls="good", named="localhost")
    yield Manner(
        "TLS, an endless body",
        floods(OK + b"\r\n", b"x" * 65_536),
        "200",
        b"x" * LIMIT,
        tls="good",
        named="localhost",
    )
    yield Manner(
        "TLS, a large row", says(ANSWER), "200", b"{}", tls="good", named="localhost", large=True
    )


async def _speaks_plainly(visitor: Visitor) -> bool:
    await visitor.reader.read(1)
    await visitor.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    return False


async def _ends_beneath(visitor: Visitor) -> bool:
    await visitor.say(OK + b"\r\n{}")
    visitor.end_beneath()
    return False


async def _alerts(visitor: Visitor) -> bool:
    await visitor.say(OK + b"Content-Length: 9\r\n\r\n{}")
    visitor.beneath(b"\x15\x03\x03\x00\x02\x02\x50")  # fatal, internal_error
    await asyncio.Event().wait()
    return False


DOTTED = "/a/../b/./c//d?q=/../x"
SIGNED = "/hook/a%3Ab?sp=%2Ftriggers%2Frun&sig=ab%2Bcd%2Fef%3D&t=%28x%29&u=a+b&e"


def requests_as_meant() -> Iterator[Manner]:
    """What must be sent as it is written, and what must not be done besides."""
    yield Manner("a URL that is signed", _checks(_target), "200", b"{}", path=SIGNED)
    yield Manner("a URL with dots", _checks(_target), "200", b"{}", path=DOTTED)
    for status in (301, 302, 303, 307, 308):
        moved = b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
        yield Manner(f"{status}", says(moved), str(status))
    yield Manner("cookies", _sets_cookie, "200", named="localhost")
    yield Manner(
        "HTTP_PROXY",
        says(ANSWER),
        "200",
        b"{}",
        environment={"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"},
    )
    yield Manner(
        "401 with a challenge",
        says(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'),
        "401",
    )
    yield Manner("408 on an idle connection", _times_out, "200", b"{}", pause=KNOWN)
    yield Manner("425", says(b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n"), "425")
    yield Manner(
        "503 that closes",
        says(
            b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            then="close",
        ),
        "503",
    )
    yield Manner("no packing asked for", _checks(_identity), "200", b"{}")


def _checks(check: Callable[[bytes], str | None], answer: bytes = ANSWER) -> Behave:
    """Answer, and have the request's head looked at."""

    async def behave(visitor: Visitor) -> bool:
        if fault := check(visitor.keeper.heads[-1]):
            visitor.keeper.faults.append(fault)
        await visitor.say(answer)
        return True

    return behave


def _target(head: bytes) -> str | None:
    """The URL has one of two paths; it must be here as it was written."""
    sent = head.split(b" ")[1].decode()
    return None if sent in (SIGNED, DOTTED) else f"sent {sent}"


def _identity(head: bytes) -> str | None:
    lines = head.lower().split(b"\r\n")
    packed = [
        line
        for line in lines
        if line.startswith(b"accept-encoding:") and line.split(b":")[1].strip() != b"identity"
    ]
    return f"asked for {packed[0].decode()}" if packed else None


async def _times_out(visitor: Visitor) -> bool:
    """As servers do that close an idle connection with a word."""
    await visitor.say(ANSWER)
    await visitor.say(
        b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    return False


async def _sets_cookie(visitor: Visitor) -> bool:
    await visitor.say(ANSWER.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))
    head = await visitor.reader.readuntil(b"\r\n\r\n")
    if b"\r\ncookie:" in head.lower():
        visitor.keeper.faults.append("the next row carried a cookie")
    await visitor.reader.readexactly(len(ROW))
    await visitor.say(NEXT)
    return True
