"""`feeds test`, as an operator runs it, against a partner over sockets: what is shown, sent, judged
and recorded.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner, Result

from app.cli.main import main
from app.core.attempts import Answer, Outcome, Verdict
from app.core.attempts import Result as Attempted
from app.core.clock import utc_now
from app.core.deliveries import Delivery
from app.ledger import Ledger
from app.ledger.client import Document
from tests.support.ledger import LEASE, batch_of, source_rows

T = TypeVar("T")

OK = b'HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
filter = [{ column = "id", op = "<", value = 100 }]
where = [{ column = "note", op = "!=", value = "private" }]

[feeds.orders.partner]
url = "PARTNER/rows/${HOOK}?v=1"
auth = AUTH
timeout = "5s"
"""
BEARER = '{ type = "bearer", token = "${TOKEN}" }'


def answered(head: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


TOKEN = answered(b"200 OK", b'{"access_token":"t0ken","token_type":"bearer","expires_in":60}')


@dataclass
class Partner:
    """A server that answers as told: `answer` to rows, `token` to requests for one."""

    url: str = ""
    answer: bytes = OK
    token: bytes = TOKEN
    rows: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, by names in lower case, and body of each row that came."""
    paths: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Partner]:
    partner = Partner()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            partner.paths.append(self.path)
            if self.path == "/token":
                self.wfile.write(partner.token)
            else:
                partner.rows.append(
                    ({name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.wfile.write(partner.answer)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    partner.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield partner
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def partner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, clean_redis_url: str
) -> Iterator[Partner]:
    """A partner, a feed to it in the working directory, and a source of five rows."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        rows = [(1, "a"), (2, "b"), (3, "Zoë"), (4, "private"), (400, "filtered")]
        connection.executemany("INSERT INTO orders VALUES (?, ?)", rows)
        connection.commit()
    environment = {
        "SOURCE_URL": f"sqlite:///{tmp_path}/shop.db",
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "TOKEN": "pl4nted-token",
        "HOOK": "pl4nted-hook",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with serving() as served:
        write_feeds(tmp_path, served)
        yield served


def write_feeds(place: Path, partner: Partner, auth: str = BEARER, **replaced: str) -> None:
    text = FEEDS.replace("PARTNER", partner.url).replace("AUTH", auth)
    for old, new in replaced.items():
        text = text.replace(old, new)
    (place / "feeds.toml").write_text(text, encoding="utf-8")


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["feeds", "test", "orders", *options])


def told(*options: str) -> dict[str, Any]:
    result = run(*options, "--json")
    assert result.stdout, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found | {"exit": result.exit_code}


def in_ledger(url: str, work: Callable[[Ledger], Awaitable[T]]) -> T:
    async def working() -> T:
        ledger = Ledger.at(url, timedelta(seconds=5))
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(working())


def log_rows(url: str, *ids: int) -> None:
    """Log rows in one batch, as a poll would now."""

    async def log(ledger: Ledger) -> None:
        batch = batch_of(*ids)
        await ledger.batches.insert([batch], utc_now() + LEASE)
        await ledger.deliveries.log([(batch, source_rows(*ids))], utc_now())

    in_ledger(url, log)


def settle(url: str, delivery_id: str, *, status: int, verdict: Verdict | None = None) -> None:
    """Record an attempt of a row that is queued: a success, or with a verdict what that says."""

    async def record(ledger: Ledger) -> None:
        document = await ledger.deliveries.get(delivery_id)
        assert document is not None
        batch = await ledger.batches.claim(
            document["batch"], document["feed"], "w", utc_now(), LEASE
        )
        assert batch is not None
        row = Delivery(
            delivery_id, "orders", document["key"], document["payload"], document["created_at"]
        )
        if verdict is None:
            await ledger.deliveries.succeed(batch, {status: [delivery_id]}, utc_now())
        else:
            await ledger.deliveries.fail(
                batch, [Attempted(row, Answer(utc_now(), 1, status), verdict)], utc_now()
            )
        await ledger.batches.settle(batch)

    in_ledger(url, record)


def documents(url: str, collection: str) -> list[Document]:
    with MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        return list(client.get_default_database()[collection].find().sort("_id"))


def everything(url: str) -> dict[str, list[Document]]:
    with MongoClient[dict[str, Any]](url) as client:
        names = client.get_default_database().list_collection_names()
    return {name: found for name in names if (found := documents(url, name))}


# --- shown, and sent


def test_the_newest_row_that_the_feed_sends_is_shown_and_nothing_is_sent(
    partner: Partner, mongo_database_url: str
) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        f"# orders:3: row from the source, not logged yet\nPOST {partner.url}/rows/[secret]?v=1\n"
    )
    assert "\nidempotency-key: orders:3\n" in result.stdout
    assert "\nauthorization: [secret]\n" in result.stdout
    assert '\n\n{"id":3,"note":"Zoë"}\n' in result.stdout
    assert (partner.rows, everything(mongo_database_url)) == ([], {})


def test_a_row_is_sent_as_a_delivery_would_be_and_nothing_is_recorded(
    partner: Partner, mongo_database_url: str
) -> None:
    result = run("--key", "2", "--send")
    assert result.exit_code == 0, result.output
    ((headers, body),) = partner.rows
    assert (headers["idempotency-key"], headers["authorization"]) == (
        "orders:2",
        "Bearer pl4nted-token",
    )
    assert (partner.paths, body) == (["/rows/pl4nted-hook?v=1"], b'{"id":2,"note":"b"}')
    assert (
        'HTTP 200 OK\ncontent-type: application/json\ncontent-length: 11\n\n  {"ok":true}\n'
        in result.stdout
    )
    assert result.stdout.endswith("\n# verdict: delivered: 200\n# nothing was recorded\n")
    assert "pl4nted" not in result.output
    assert everything(mongo_database_url) == {}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (answered(b"503 x"), "retry; again in about 1 s: 503 Service Unavailable"),
        (answered(b"422 x"), "dead: 422 Unprocessable"),
        (
            answered(b"301 x\r\nLocation: /elsewhere?token=pl4nted-token"),
            "dead: 301 Moved Permanently: redirects are",
        ),
        (
            answered(b"401 x"),
            "; the feed is paused: 401 Unauthorized: the partner refuses our credentials",
        ),
        (
            answered(b"403 x"),
            "; the feed is paused: 403 Forbidden: the partner refuses our credentials",
        ),
        (answered(b"410 x"), "dead: 410 Gone; the feed is paused: 410 Gone: the endpoint is gone"),
        (b"", "unknown; again in about 1 s: Disconnected: "),
        (b"nonsense", "unknown; again in about 1 s: ProtocolError: the answer is not HTTP/1"),
    ],
)
def test_the_verdict_is_the_one_that_a_worker_would_come_to(
    partner: Partner, mongo_database_url: str, answer: bytes, said: str
) -> None:
    partner.answer = answer
    result = run("--send")
    assert result.exit_code == 1
    assert said in result.stdout.partition("# verdict: ")[2].replace("\n", " ")
    assert len(partner.rows) == 1
    assert "location: /elsewhere?token=[secret]" in result.stdout or b"301" not in answer
    assert "pl4nted" not in result.output
    assert everything(mongo_database_url) == {}


def test_a_403_is_that_rows_fault_where_others_were_accepted_lately(
    partner: Partner, mongo_database_url: str
) -> None:
    log_rows(mongo_database_url, 1)
    settle(mongo_database_url, "orders:1", status=200)
    partner.answer = answered(b"403 x")
    said = told("--send")
    assert (said["verdict"]["outcome"], said["verdict"]["pause_reason"], said["exit"]) == (
        "retry",
        None,
        1,
    )


def test_what_a_partner_answers_is_shown_as_data(partner: Partner) -> None:
    body = "first\n# verdict: delivered\x1b]0;owned\x07\u202e\x9b pl4nted-token".encode()
    partner.answer = answered(b"400 x\r\nServer: a\x1b[31mb", body)
    result = run("--send")
    assert (
        "\n  first\n  # verdict: delivered\\x1b]0;owned\\x07\\u202e\\x9b [secret]\n"
        in result.stdout
    )
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(result.output)


def test_a_long_answer_and_a_long_row_are_shown_to_2_kib(partner: Partner, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("INSERT INTO orders VALUES (5, ?)", ("n" * 9000,))
        connection.commit()
    partner.answer = answered(b"200 x", b"a" * 50_000)
    result = run("--send")
    assert "\n# … 6970 letters more\n" in result.stdout
    assert result.stdout.count("a" * 2048) == 1
    assert "a" * 2049 not in result.stdout
    assert len(partner.rows[0][1]) > 9000


@pytest.mark.usefixtures("partner")
def test_programs_get_it_all_as_json() -> None:
    said = told("--key", "2", "--send")
    assert (said["exit"], said["delivery"], said["row_from"], said["state"]) == (
        0,
        "orders:2",
        "source",
        None,
    )
    assert (said["sent"], said["recorded"], said["refused"]) == (True, False, None)
    assert (said["answer"]["status"], said["answer"]["body"]) == (200, '{"ok":true}')
    assert said["answer"]["headers"]["content-type"] == "application/json"
    assert said["verdict"]["outcome"] == "delivered"
    assert said["request"]["headers"]["authorization"] == "[secret]"
    assert told("--key", "2")["sent"] is False


# --- the access token


def use_oauth2(place: Path, partner: Partner) -> None:
    auth = f'{{ type = "oauth2", token_url = "{partner.url}/token", client_id = "us", client_secret = "${{TOKEN}}" }}'
    write_feeds(place, partner, auth)


def test_an_access_token_is_fetched_for_it(partner: Partner, tmp_path: Path) -> None:
    use_oauth2(tmp_path, partner)
    result = run("--send")
    assert result.exit_code == 0, result.output
    assert partner.paths == ["/token", "/rows/pl4nted-hook?v=1"]
    assert partner.rows[0][0]["authorization"] == "Bearer t0ken"
    assert "authorization: Bearer [access token, fetched when sending]" in result.stdout
    assert "t0ken" not in result.output


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (
            answered(b"500 x"),
            "not sent, for want of something of our own; again in about 5 s: TokenError: ",
        ),
        (
            answered(b"400 x", b'{"error":"invalid_client"}'),
            "; the feed is paused: TokenError: no access token",
        ),
    ],
)
def test_a_token_that_is_not_to_be_had_is_said_and_nothing_is_sent(
    partner: Partner, tmp_path: Path, token: bytes, said: str
) -> None:
    use_oauth2(tmp_path, partner)
    partner.token = token
    result = run("--send")
    assert (result.exit_code, partner.rows) == (1, [])
    assert said in result.stdout


# --- what is not sent


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("4", "where: the feed's conditions leave it out"),
        ("400", "filter: not id < 100"),
    ],
)
def test_a_row_that_the_feed_leaves_out_is_not_sent(partner: Partner, key: str, why: str) -> None:
    said = told("--key", key, "--send")
    assert (said["exit"], said["sent"], partner.rows) == (1, False, [])
    assert said["request"]["reason"].startswith(why)
    assert said["refused"].startswith(why)


def test_a_row_that_no_request_can_be_made_of_is_a_dead_letter_and_is_not_sent(
    partner: Partner, tmp_path: Path
) -> None:
    write_feeds(tmp_path, partner, timeout='headers = { "X-Note" = "$note" }\ntimeout')
    said = told("--send")
    assert (said["exit"], said["sent"], said["verdict"]["outcome"], partner.rows) == (
        1,
        False,
        "dead",
        [],
    )
    assert "column 'note' holds U+00EB" in said["verdict"]["reason"]


def test_what_the_partner_asks_us_to_wait_holds_for_all_and_is_said(partner: Partner) -> None:
    partner.answer = answered(b"429 x\r\nRetry-After: 600")
    first = run("--send")
    assert (
        "retry; again in about 600 s: 429 Too Many Requests; nothing is sent to this endpoint until then"
        in (first.stdout)
    )
    again = run("--send")
    assert again.exit_code == 1
    assert "# nothing was sent: the endpoint is left alone for " in again.stdout
    assert again.stdout.endswith(" s more: the partner asked for it\n")
    assert len(partner.rows) == 1


def test_a_row_whose_own_wait_was_asked_for_is_left_alone(
    partner: Partner, mongo_database_url: str
) -> None:
    log_rows(mongo_database_url, 1)
    later = utc_now() + timedelta(hours=1)
    settle(mongo_database_url, "orders:1", status=409, verdict=Verdict(Outcome.RETRY, "409", later))
    said = told("--key", "1", "--send")
    assert said["refused"].startswith("the partner asked to leave this row alone until ")
    assert partner.rows == []


@pytest.mark.parametrize("options", [(), ("--record",)], ids=["", "record"])
def test_a_row_that_a_worker_holds_is_not_sent(
    partner: Partner, mongo_database_url: str, options: tuple[str, ...]
) -> None:
    log_rows(mongo_database_url, 1, 2)
    (batch,) = documents(mongo_database_url, "batches")
    in_ledger(
        mongo_database_url,
        lambda ledger: ledger.batches.claim(batch["_id"], batch["feed"], "w", utc_now(), LEASE),
    )
    said = told("--key", "1", "--send", *options)
    assert (said["exit"], said["refused"].partition(",")[0], partner.rows) == (
        1,
        "a worker holds it",
        [],
    )


def test_a_person_is_asked_before_a_partner_gets_a_row(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.feeds_trial._asks", lambda: True)
    words = ["feeds", "test", "orders", "--key", "1", "--send"]
    assert CliRunner().invoke(main, words, input="n\n").exit_code == 1
    assert partner.rows == []
    asked = CliRunner().invoke(main, words, input="y\n")
    assert "Send orders:1 to 127.0.0.1? [y/N]" in asked.stderr
    assert len(partner.rows) == 1
    assert CliRunner().invoke(main, [*words, "--yes"]).exit_code == 0


def test_a_row_that_the_partner_has_is_sent_again_on_a_clear_word_alone(
    partner: Partner, mongo_database_url: str
) -> None:
    words = ["feeds", "test", "orders", "--key", "1", "--send"]
    log_rows(mongo_database_url, 1)
    settle(mongo_database_url, "orders:1", status=200)
    refused = CliRunner().invoke(main, words)
    assert (refused.exit_code, partner.rows) == (2, [])
    assert (
        "orders:1: would go to 127.0.0.1, which has it already; to send it again: --yes"
        in refused.stderr
    )
    assert CliRunner().invoke(main, [*words, "--yes"]).exit_code == 0
    assert len(partner.rows) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["orders", "--record"], 2, "--record goes with --send"),
        (["bills"], 2, "feed 'bills': not configured; known feeds: orders"),
        (
            ["orders", "--key", "7"],
            1,
            "feed orders: no row with key '7', neither in the ledger nor in the source",
        ),
        (
            ["orders", "--key", "a:b"],
            1,
            "feed orders: no row with key 'a:b', neither in the ledger nor in the source",
        ),
    ],
)
@pytest.mark.usefixtures("partner")
def test_what_cannot_be_is_one_clear_line(words: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(main, ["feeds", "test", *words])
    assert (result.exit_code, result.stderr) == (code, f"rowrelay: {said}\n")


@pytest.mark.usefixtures("partner")
def test_a_source_without_a_row_is_said(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("DELETE FROM orders")
        connection.commit()
    assert run().stderr == "rowrelay: feed orders: no row to send in the source\n"


# --- on record


def test_an_attempt_on_record_is_one_like_any_other_and_the_batch_goes_on(
    partner: Partner, mongo_database_url: str
) -> None:
    log_rows(mongo_database_url, 1, 2, 3)
    said = told("--key", "2", "--send", "--record")
    assert (said["exit"], said["recorded"], len(partner.rows)) == (0, True, 1)
    (attempt,) = documents(mongo_database_url, "attempts")
    assert attempt["_id"].startswith("orders:2#")
    assert (attempt["outcome"], attempt["status"]) == ("delivered", 200)
    assert attempt["worker"].endswith(" (feeds test)")
    states = {
        document["_id"]: document["state"]
        for document in documents(mongo_database_url, "deliveries")
    }
    assert states == {"orders:1": "queued", "orders:2": "delivered", "orders:3": "queued"}
    (batch,) = documents(mongo_database_url, "batches")
    assert "lease" not in batch
    assert batch["visible_at"] <= utc_now()  # the sweep sends the others at once


@pytest.mark.parametrize(
    ("answer", "state", "exit_code"),
    [(OK, "delivered", 0), (answered(b"503 x"), "retrying", 1), (answered(b"422 x"), "dead", 1)],
)
def test_a_row_that_waits_for_a_retry_moves_as_its_answer_says(
    partner: Partner, mongo_database_url: str, answer: bytes, state: str, exit_code: int
) -> None:
    log_rows(mongo_database_url, 1)
    later = utc_now() + timedelta(hours=1)
    settle(mongo_database_url, "orders:1", status=503, verdict=Verdict(Outcome.RETRY, "503", later))
    partner.answer = answer
    said = told("--key", "1", "--send", "--record")
    assert (said["exit"], said["recorded"], said["state"]) == (exit_code, True, "retrying")
    (delivery,) = documents(mongo_database_url, "deliveries")
    assert (delivery["state"], delivery["attempts"]) == (state, 2)
    assert documents(mongo_database_url, "batches") == []


def test_a_refusal_on_record_pauses_the_feed(partner: Partner, mongo_database_url: str) -> None:
    log_rows(mongo_database_url, 1)
    partner.answer = answered(b"401 x")
    assert told("--key", "1", "--send", "--record")["exit"] == 1
    (cursor,) = documents(mongo_database_url, "cursors")
    assert cursor["paused_reason"].endswith("check partner.auth (delivery orders:1)")


def test_what_cannot_be_recorded_is_refused_and_can_be_tried_without(
    partner: Partner, mongo_database_url: str
) -> None:
    refusals = {"4": "where: ", "3": "it is not in the ledger yet"}
    log_rows(mongo_database_url, 1)
    settle(mongo_database_url, "orders:1", status=200)
    refusals["1"] = (
        "it is delivered: no attempt of it is owed (python -m app replay orders:1 --state delivered)"
    )
    log_rows(mongo_database_url, 2)
    in_ledger(mongo_database_url, lambda ledger: ledger.pauses.pause("orders", "401"))
    refusals["2"] = "the feed is paused: nothing of it is sent for the record"
    before = everything(mongo_database_url)
    for key, why in refusals.items():
        said = told("--key", key, "--send", "--record")
        assert (said["exit"], said["recorded"]) == (1, False)
        assert said["refused"].startswith(why)
    assert partner.rows == []
    assert [told("--key", key, "--send", "--yes")["exit"] for key in ("1", "2", "3")] == [0, 0, 0]
    assert everything(mongo_database_url) == before


def test_a_change_goes_under_the_id_that_its_delivery_has(partner: Partner, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE changing (id INTEGER PRIMARY KEY, note TEXT, v INTEGER)")
        connection.executemany("INSERT INTO changing VALUES (?, 'n', ?)", [(1, 12), (2, 11)])
        connection.commit()
    cursor = {'"orders"\nkey': '"changing"\ncapture = "changes"\nkey'}
    rowversion = {'"identity", column = "id"': '"rowversion", column = "v"'}
    write_feeds(tmp_path, partner, **cursor, **rowversion)
    assert told()["delivery"] == "orders:1:0x000000000000000C"
    assert told("--key", "2")["delivery"] == "orders:2:0x000000000000000B"


def test_doctor_finds_a_value_of_the_newest_row_that_no_header_can_carry(
    partner: Partner, tmp_path: Path
) -> None:
    def doctor() -> tuple[int, str | None]:
        result = CliRunner().invoke(main, ["doctor", "--json"])
        details = {check["name"]: check["detail"] for check in json.loads(result.stdout)["checks"]}
        return result.exit_code, details.get("feed orders: newest row")

    write_feeds(tmp_path, partner, timeout='headers = { "X-Note" = "$note" }\ntimeout')
    assert doctor() == (
        1,
        "delivery orders:3 would be a dead letter: headers.X-Note: column 'note' holds U+00EB (letter 3); "
        'a header\'s value is printable ASCII on one line, or "$note|quote" encodes it',
    )
    write_feeds(tmp_path, partner, timeout='headers = { "X-Note" = "$note|quote" }\ntimeout')
    assert doctor() == (0, "delivery orders:3: a request of 22 bytes, with X-Note")
    assert partner.rows == []
