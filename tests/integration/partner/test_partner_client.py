"""One attempt at a partner, over sockets: each fault has its answer, within bounds, and no secret
shows.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from app.core.attempts import RESPONSE_LIMIT, Answer, Ruling
from app.feeds.auth import BearerAuth
from app.feeds.feed import Feed, Partner
from app.partner import kept
from app.partner.client import ERROR_LIMIT, PartnerClient
from app.partner.connection import PIECE
from app.partner.exchange import SENT_AGAIN
from app.partner.failures import Failure, connecting_failed
from app.partner.kept import BROKEN_OFF
from app.testbed.simulator.faults import Faults
from app.testbed.simulator.partner import serve
from tests.support.partners import (
    KEPT,
    OK,
    Respond,
    delivery,
    feed_to,
    raw_partner,
    read_request,
    recording,
    send_once,
    silent,
)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that ends right before it is used again: nobody has seen it, however slow the
    machine.
    """
    monkeypatch.setattr(kept, "JUST_SECONDS", 600.0)


# What is sent


async def test_a_row_reaches_the_partner_with_its_key_and_headers() -> None:
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(recording(requests)) as url:
        answer = await send_once(feed_to(url, headers={"X-Shop": "7"}))
    assert (answer.status, answer.body, answer.error) == (200, "{}", None)
    head, body = requests[0]
    assert head.startswith(b"post /rows http/1.1\r\n")
    assert body == '{"id":1,"name":"Zoë"}'.encode()
    for line in (
        b"idempotency-key: orders:1",
        b"content-type: application/json",
        b"user-agent: rowrelay/",
        b"accept-encoding: identity",
        b"x-shop: 7",
    ):
        assert b"\r\n" + line in head
    assert b"cookie" not in head


async def test_every_attempt_of_a_delivery_carries_the_same_key() -> None:
    async with serve(Faults(statuses={500: 1}, limit=2)) as partner:
        feed = feed_to(partner.url)
        async with PartnerClient([feed]) as client:
            statuses = [(await client.send(feed, delivery())).status for _ in range(4)]
        assert statuses == [500, 500, 200, 200]
        assert partner.accepted_keys == {"orders:1": 2}


async def test_a_large_row_arrives_whole() -> None:
    requests: list[tuple[bytes, bytes]] = []
    payload = '{"a":"' + "x" * (60 * PIECE) + '"}'
    async with raw_partner(recording(requests)) as url:
        answer = await send_once(feed_to(url), delivery(payload=payload))
    assert answer.status == 200
    head, body = requests[0]
    assert body == payload.encode()
    assert b"transfer-encoding" not in head


async def test_small_answers_leave_the_connection_open_for_the_next_row() -> None:
    connections = 0

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            await read_request(reader)
            body = b"x" * RESPONSE_LIMIT
            writer.write(
                b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )

    async with raw_partner(respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            answers = [await client.send(feed, delivery(str(key))) for key in range(5)]
    assert [len(answer.body) for answer in answers] == [RESPONSE_LIMIT] * 5
    assert connections == 1


async def test_no_cookie_of_the_partner_is_sent_back() -> None:
    requests: list[tuple[bytes, bytes]] = []
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=s3cret; Path=/\r\nConnection: close\r\n\r\n"
    async with raw_partner(recording(requests, cookie)) as url:
        feed = feed_to(url.replace("127.0.0.1", "localhost"))
        async with PartnerClient([feed]) as client:
            first = await client.send(feed, delivery())
            await client.send(feed, delivery())
    assert len(requests) == 2
    assert b"cookie" not in requests[1][0]
    assert "s3cret" not in repr(first)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serve() as partner:
        assert (await send_once(feed_to(partner.url))).status == 200


class Shutting:
    """Answers each request with the next of `answers`, or closes for want of one; `shut` closes the
    other way round: before a request comes.
    """

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while True:
            self.requests.append((await read_request(reader))[0])
            if not self.answers:
                return
            writer.write(self.answers.pop(0))

    def shut(self) -> None:
        """The kernel refuses what comes from now on; the client has had no turn to notice."""
        self._writers[-1].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("unseen")
async def test_a_row_that_came_after_its_kept_connection_was_closed_goes_once_more_within_the_attempt() -> (
    None
):
    partner = Shutting(KEPT, KEPT)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url, method="PUT")
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery("1"))
            partner.shut()
            answer = await client.send(feed, delivery("2"))
    assert (answer.status, answer.note) == (200, SENT_AGAIN)
    assert [b"orders:2" in head for head in partner.requests] == [False, True]


async def test_a_row_that_arrived_and_was_not_answered_is_in_doubt_and_does_not_go_again_unrecorded() -> (
    None
):
    partner = Shutting(KEPT)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery("1"))
            answer = await client.send(feed, delivery("2"))
    assert (str(answer.error).partition(":")[0], answer.ruling) == (
        Failure.DISCONNECTED,
        Ruling.LOST,
    )
    assert len(partner.requests) == 2


@pytest.mark.usefixtures("unseen")
async def test_it_goes_once_more_only() -> None:
    partner = Shutting(KEPT)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery("1"))
            partner.shut()
            answer = await client.send(feed, delivery("2"))
    assert (str(answer.error).partition(":")[0], answer.ruling) == (
        Failure.DISCONNECTED,
        Ruling.LOST,
    )
    assert len(partner.requests) == 2


@pytest.mark.usefixtures("unseen")
async def test_a_row_that_could_not_go_once_more_is_in_doubt() -> None:
    """The second connection is refused, which alone would mean that nothing was sent."""
    partner = Shutting(KEPT)
    server = await asyncio.start_server(partner.respond, "127.0.0.1", 0)
    feed = feed_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with PartnerClient([feed]) as client:
        await client.send(feed, delivery("1"))
        server.close()
        partner.shut()
        answer = await client.send(feed, delivery("2"))
    assert (str(answer.error).partition(":")[0], answer.ruling) == (
        Failure.CONNECT_ERROR,
        Ruling.LOST,
    )
    assert len(partner.requests) == 1


@pytest.mark.usefixtures("unseen")
async def test_a_partner_that_can_be_asked_is_asked_before_a_row_goes_once_more() -> None:
    missing = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    partner = Shutting(KEPT, missing, OK)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url, status_url=f"{url}/status/{{id}}")
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery("1"))
            partner.shut()
            answer = await client.send(feed, delivery("2"))
    assert (answer.status, answer.note) == (200, SENT_AGAIN)
    assert [head.split()[0] for head in partner.requests] == [b"post", b"get", b"post"]


class Closing:
    """Closes each connection unsaid, so long after its first answer. Counts connections, and rows
    that it read.
    """

    def __init__(self, after: float, answer: bytes = OK) -> None:
        self.connections = self.rows = 0
        self._after, self._answer = after, answer

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        closing: asyncio.TimerHandle | None = None
        try:
            while await read_request(reader):
                self.rows += 1
                writer.write(self._answer)
                closing = closing or asyncio.get_running_loop().call_later(
                    self._after, writer.close
                )
        finally:
            if closing:
                closing.cancel()


async def sent_for(seconds: float, client: PartnerClient, feed: Feed, pause: float) -> list[Answer]:
    """One row after the other for that long, with a pause between them."""
    answers, end = list[Answer](), asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        answers.append(await client.send(feed, delivery(str(len(answers)))))
        await asyncio.sleep(pause)
    return answers


async def test_a_partner_that_closes_after_each_answer_unsaid_leaves_no_row_in_doubt() -> None:
    partner = Closing(0.003)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            some = [client.send(feed, delivery(str(number))) for number in range(30)]
            answers = await asyncio.gather(*some)
            answers += await sent_for(1.0, client, feed, 0.002)
    assert {answer.status for answer in answers} == {200}
    assert partner.rows == partner.connections == len(answers), (
        "each row came once, on a connection of its own"
    )


async def test_a_connection_is_used_again_once_the_partner_is_known_to_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "PROOF_SECONDS", 1.0)  # longer than this machine may stand still
    partner = Closing(600.0)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            await sent_for(2 * kept.PROOF_SECONDS, client, feed, 0.01)
            before = partner.connections
            answers = await sent_for(0.5, client, feed, 0.01)
    assert before > 1
    assert len(answers) > 1
    assert partner.connections == before


async def test_a_partner_that_says_that_it_keeps_connections_is_believed() -> None:
    partner = Closing(600.0, KEPT)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            for number in range(5):
                await client.send(feed, delivery(str(number)))
    assert partner.connections == 1


async def test_a_connection_is_not_used_again_about_as_late_as_the_partner_was_seen_to_close_one() -> (
    None
):
    """It closes what has been open for 1.2 s: each row comes 1.1 s after the one before."""
    partner = Closing(1.2)
    async with raw_partner(partner.respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            await client.send(feed, delivery("first"))
            await asyncio.sleep(2.0)
            answers = await sent_for(3.0, client, feed, 1.1)
    assert {answer.status for answer in answers} == {200}
    assert partner.connections == len(answers) + 1


async def test_no_connection_is_kept_for_a_while_where_kept_ones_are_closed_without_an_answer() -> (
    None
):
    connections: list[int] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await read_request(reader)
        writer.write(KEPT)
        await read_request(reader)

    async with raw_partner(respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            answers = [await client.send(feed, delivery(str(number))) for number in range(20)]
    in_doubt = [answer for answer in answers if answer.ruling is Ruling.LOST]
    assert len(in_doubt) == BROKEN_OFF
    assert len(connections) == len(answers) - BROKEN_OFF


# What comes back


@pytest.mark.parametrize("status", [200, 202, 400, 401, 403, 404, 408, 410, 429, 500, 503])
async def test_each_status_is_reported_as_it_is(status: int) -> None:
    async with serve(Faults(statuses={status: 1}, retry_after="17")) as partner:
        answer = await send_once(feed_to(partner.url))
    assert (answer.status, answer.error) == (status, None)
    assert answer.headers.get("retry-after") == ("17" if status == 429 else None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with serve(Faults(statuses={status: 1}, limit=1)) as partner:
        answer = await send_once(feed_to(partner.url))
        assert answer.status == status
        assert partner.counts()["requests"] == 1


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("cut", Failure.DISCONNECTED),
        ("lost_answer", Failure.DISCONNECTED),
        ("cut_answer", Failure.READ_ERROR),
        ("garbage", Failure.PROTOCOL_ERROR),
    ],
)
async def test_each_fault_is_told_apart(fault: str, failure: Failure) -> None:
    async with serve(Faults.model_validate({fault: 1})) as partner:
        answer = await send_once(feed_to(partner.url))
    assert answer.status == (200 if fault == "cut_answer" else None)
    assert answer.ruling is Ruling.LOST
    assert str(answer.error).startswith(f"{failure}: ")


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with serve() as partner:
        url = partner.url
    assert str((await send_once(feed_to(url))).error).startswith("ConnectError: ")


async def test_an_unknown_host_is_a_name_error() -> None:
    answer = await send_once(feed_to("http://partner.invalid"))
    assert str(answer.error).startswith("NameError: ")


async def test_a_partner_without_the_tls_it_promises_is_a_tls_error() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_partner(plain) as url:
        answer = await send_once(feed_to(url.replace("http:", "https:"), timeout="2s"))
    assert str(answer.error).startswith("TLSError: ")


async def test_a_connection_that_is_not_made_in_time_is_a_connect_timeout() -> None:
    async with raw_partner(silent) as url:  # TCP connects, TLS does not
        answer = await send_once(feed_to(url.replace("http:", "https:"), connect_timeout="200ms"))
    assert answer.error == "ConnectTimeout: no connection within partner.connect_timeout"


@pytest.mark.parametrize("fault", ["hang", "drip"])
async def test_the_deadline_holds(fault: str) -> None:
    async with serve(Faults.model_validate({fault: 1})) as partner:
        answer = await send_once(feed_to(partner.url, timeout="300ms"))
    assert answer.error == "Deadline: no complete answer within 0.3 s (partner.timeout)"
    assert 290 <= answer.duration_ms < 10_000


async def test_the_deadline_holds_against_a_partner_that_does_not_read() -> None:
    async with raw_partner(silent) as url:
        answer = await send_once(feed_to(url, timeout="300ms"), delivery(payload="x" * 15_000_000))
    assert str(answer.error).startswith("Deadline: ")
    assert answer.duration_ms < 10_000


async def test_an_endless_answer_is_read_to_its_bound_and_counts_as_an_answer() -> None:
    async with serve(Faults(flood=1)) as partner:
        answer = await send_once(feed_to(partner.url))
    assert (answer.status, len(answer.body)) == (200, RESPONSE_LIMIT)


async def test_an_answer_before_the_row_was_read_is_an_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with raw_partner(refuse) as url:
        answer = await send_once(feed_to(url, timeout="2s"), delivery(payload="x" * 15_000_000))
    assert answer.status == 413


@pytest.mark.parametrize("idle", [False, True], ids=["with the first", "on the idle connection"])
async def test_a_second_answer_is_never_the_answer_to_the_next_row(idle: bool) -> None:
    """RFC 9112, section 6.3: what comes without a request must not be taken for the answer to a
    later one.
    """
    said_twice = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if said_twice.is_set():
            writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        said_twice.set()
        writer.writelines([OK] if idle else [OK, OK])
        if idle:
            await answered.wait()
            writer.write(OK)
        await writer.drain()
        sent.set()
        await respond(reader, writer)

    answered, sent = asyncio.Event(), asyncio.Event()
    async with raw_partner(respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            assert (await client.send(feed, delivery("1"))).status == 200
            answered.set()
            await sent.wait()
            await asyncio.sleep(
                0.05
            )  # for the second answer to be read; it must not arrive before we look
            assert (await client.send(feed, delivery("2"))).status == 422


async def test_a_body_that_is_not_text_stays_within_the_bound() -> None:
    async with raw_partner(
        recording([], b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + b"\xff" * 4096)
    ) as url:
        answer = await send_once(feed_to(url))
    assert 0 < len(answer.body.encode()) <= RESPONSE_LIMIT


async def test_a_reason_phrase_that_is_not_utf8_does_no_harm() -> None:
    latin = "HTTP/1.1 500 Erreur détectée\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    async with raw_partner(recording([], latin)) as url:
        assert (await send_once(feed_to(url))).status == 500


@pytest.mark.parametrize("seed", range(40))
async def test_no_garbage_raises(seed: int) -> None:
    chance = random.Random(seed)
    good = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    broken = bytearray(good * chance.randint(1, 2))
    for _ in range(chance.randint(1, 8)):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    async with raw_partner(recording([], bytes(broken))) as url:
        answer = await send_once(feed_to(url, timeout="2s"))
    assert (answer.ruling is None) is (answer.error is None)
    assert "\n" not in (answer.error or "")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 20",
        b"<html>an error page</html>",
        bytes(1000),
    ],
)
async def test_an_answer_that_is_not_http_is_a_failure_on_one_line(answer: bytes) -> None:
    async with raw_partner(recording([], answer)) as url:
        error = (await send_once(feed_to(url, timeout="2s"))).error
    assert error
    assert error.partition(":")[0] in {
        Failure.PROTOCOL_ERROR,
        Failure.READ_ERROR,
        Failure.DISCONNECTED,
    }
    assert "\n" not in error
    assert len(error) <= ERROR_LIMIT


# Cancelling and closing


async def test_cancelling_an_attempt_is_passed_on() -> None:
    arrived = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await silent(reader, writer)

    async with raw_partner(respond) as url:
        feed = feed_to(url)
        async with PartnerClient([feed]) as client:
            attempt = asyncio.create_task(client.send(feed, delivery()))
            await arrived.wait()
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt


async def test_closing_answers_what_is_in_flight() -> None:
    arrived = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await silent(reader, writer)

    async with raw_partner(respond) as url:
        feed = feed_to(url)
        client = PartnerClient([feed])
        attempt = asyncio.create_task(client.send(feed, delivery()))
        await arrived.wait()
        await client.close()
        assert (await attempt).error


async def test_a_client_that_sent_nothing_closes() -> None:
    await PartnerClient([]).close()


async def test_a_feed_that_was_changed_is_sent_as_changed() -> None:
    async with serve() as one, serve() as other:
        async with PartnerClient([feed_to(one.url)]) as client:
            await client.send(feed_to(one.url), delivery())
            await client.send(feed_to(other.url), delivery())
        assert [one.counts()["requests"], other.counts()["requests"]] == [1, 1]


# Secrets


SECRETS = ("hunter2", "t0ps3cret", "st4tic", "in-the-query")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 400 Bad\r\nContent-Type: text/t0ps3cret\r\nContent-Length: %d\r\n\r\n"
        % len(head)
        + head
    )


async def break_with(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nBroken header t0ps3cret hunter2\r\n\r\n")


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX-Echo: t0ps3cret st4tic hunter2\r\nContent-")


@pytest.mark.parametrize("respond", [echo, break_with, hang_up])
@pytest.mark.parametrize(
    "auth",
    [
        {"type": "none"},
        {"type": "bearer", "token": "t0ps3cret"},
        {"type": "api_key", "key": "t0ps3cret"},
        {"type": "basic", "username": "us", "password": "t0ps3cret"},
    ],
)
async def test_no_secret_is_in_an_answer(respond: Respond, auth: dict[str, str]) -> None:
    async with raw_partner(respond) as url:
        feed = feed_to(
            url.replace("http://", "http://me:hunter2@"), headers={"X-Api-Token": "st4tic"}
        )
        partner = feed.partner.model_copy(
            update={"auth": Partner.model_validate({"url": url, "auth": auth}).auth}
        )
        feed = feed.model_copy(update={"partner": partner})
        async with PartnerClient([feed]) as client:
            answer = await client.send(feed, delivery())
            shown = repr(answer) + repr(client)
    if auth["type"] == "none":
        shown = shown.replace("t0ps3cret", "")  # not a secret of this feed
    assert not [secret for secret in SECRETS if secret in shown]
    assert "[secret]" in shown or respond is not echo


async def test_a_secret_at_the_bound_of_the_body_leaves_no_part_behind() -> None:
    body = b"x" * (RESPONSE_LIMIT - 5) + b"t0ps3cret"
    async with raw_partner(
        recording([], b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    ) as url:
        answer = await send_once(
            feed_to(url, BearerAuth(type="bearer", token=SecretStr("t0ps3cret")))
        )
    assert answer.body == "x" * (RESPONSE_LIMIT - 5)


@pytest.mark.parametrize("fault", ["garbage", "cut", "cut_answer", "hang"])
async def test_no_failure_quotes_the_url(fault: str) -> None:
    async with serve(Faults.model_validate({fault: 1})) as partner:
        feed = feed_to(partner.url, path="/rows?token=in-the-query", timeout="300ms")
        answer = await send_once(feed)
    assert answer.error
    assert "in-the-query" not in repr(answer)


# The table of failures


def tree(*roots: type[OSError]) -> Iterator[type[OSError]]:
    for root in roots:
        yield root
        yield from tree(*root.__subclasses__())


RAISED = sorted(
    {error for error in tree(OSError) if error.__module__ in ("builtins", "socket", "ssl")},
    key=lambda error: f"{error.__module__}.{error.__name__}",
)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: f"{error.__module__}.{error.__name__}")
def test_every_error_of_getting_a_connection_has_its_kind(error: type[OSError]) -> None:
    failure, text = connecting_failed(error.__new__(error))
    assert (failure is Failure.TLS_ERROR) is issubclass(error, ssl.SSLError)
    assert (failure is Failure.NAME_ERROR) is issubclass(error, socket.gaierror)
    assert (failure is Failure.CONNECT_TIMEOUT) is issubclass(error, TimeoutError)
    assert text


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOMEM])
def test_what_this_machine_lacks_is_told_from_what_the_partner_does(number: int) -> None:
    failure, text = connecting_failed(OSError(number, "x"))
    assert failure is Failure.LOCAL_ERROR
    assert text.startswith("x")
    assert ("ulimit -n" in text) is (number == errno.EMFILE)
    assert connecting_failed(OSError(errno.ECONNREFUSED, "x")) == (Failure.CONNECT_ERROR, "x")
