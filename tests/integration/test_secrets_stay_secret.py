"""Secrets planted wherever Rowrelay takes one, and looked for in everything that it puts out."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

import config
from app.cli.main import main
from app.configuration import checks
from app.core.errors import ConfigError, RowrelayError
from app.delivery.deliver import Delivering
from app.delivery.work import DeliverySettings
from app.feeds.feed import Feed
from app.intake.poll import Polling
from app.ledger import Ledger
from app.partner.client import PartnerClient
from app.partner.request import prepare
from app.source.engine import open_engine
from app.source.reader import Source
from app.testbed.simulator.partner import serve
from tests.support.doubles import MemoryQueue
from tests.support.partners import raw_partner, read_request

PLANTED = {
    "REDIS_SECRET": "pl4nted-redis",
    "SOURCE_SECRET": "pl4nted-source",
    "TOKEN": "pl4nted-bearer",
    "API_KEY": "pl4nted-api-key",
    "PASSWORD": "pl4nted/pass word",
    "CLIENT_SECRET": "pl4nted-client/secret",
    "SIGNING": "whsec_cGw0bnRlZC1zaWduaW5nLXNlY3JldC1rZXk=",
    "URL_PASSWORD": "pl4nted-url",
    "QUERY": "pl4nted-query",
    "HOOK": "pl4nted%2fhook-in-the-path",
    "VALUE": "pl4nted-value-of-any-name",
    "LOGIN_CODE": "pl4nted-code-of-the-login",
    "CLIENT_ID": "pl4nted-client",
    "HEADER": "pl4nted-header",
    "BODY": "pl4nted-body",
    "AWS_ID": "pl4nted-aws-id",
    "AWS_KEY": "pl4nted/aws+key",
    "AWS_TOKEN": "pl4nted/aws+token==",
}
TRACES = (
    "pl4nted",
    "cGw0bnRlZC1",  # the secret of the signatures, and "pl4nted-" in base64
    "dXM6cGw0bnRlZ",  # "us:pl4nted" in base64, as in a header for basic authentication
    "token-1",  # the simulator's access token
)
"""Texts that a planted secret leaves, as written and as sent."""

AUTHS = {
    "bearer": '{ type = "bearer", token = "${TOKEN}" }',
    "api_key": '{ type = "api_key", key = "${API_KEY}" }',
    "basic": '{ type = "basic", username = "us", password = "${PASSWORD}" }',
    "oauth2": '{ type = "oauth2", token_url = "LOGIN/oauth/token?c=${LOGIN_CODE}", client_id = "${CLIENT_ID}",'
    ' client_secret = "${CLIENT_SECRET}" }',
    "aws_sigv4": '{ type = "aws_sigv4", region = "eu-west-1", service = "execute-api", access_key_id = "${AWS_ID}",'
    ' secret_access_key = "${AWS_KEY}", session_token = "${AWS_TOKEN}" }',
}

FEED = """
[feeds.NAME]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }

[feeds.NAME.body]
id = "$id"
app = "${BODY}"

[feeds.NAME.partner]
url = "http://us:${URL_PASSWORD}@PARTNER/rows/${HOOK}?v=${VALUE}&token=${QUERY}"
auth = AUTH
headers = { "X-Session" = "${HEADER}" }
signing = { secrets = ["${SIGNING}"] }
status_url = "http://PARTNER/status/${HOOK}/{key}?token=${QUERY}"
timeout = "2s"
"""

WHOLE_URL = """
[feeds.whole-KIND]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "${WHOLE_KIND}", status_url = "${WHOLE_KIND}/{key}", timeout = "2s" }
"""
"""A feed whose URL is a secret as a whole, as webhook providers hand them out."""


def traces(text: str) -> list[str]:
    return [trace for trace in TRACES if trace in text]


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 401 with all that was sent, in headers and body."""
    head, body = await read_request(reader)
    said = head + body
    line = head.replace(b"\r\n", b" ").strip()
    writer.write(b"HTTP/1.1 401 No\r\nContent-Type: " + line + b"\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(said) + said)


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with all that was sent, as something that is not HTTP."""
    head, body = await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nBroken " + head.replace(b"\r\n", b" ") + body + b"\r\n\r\n")


@asynccontextmanager
async def place_of_feeds(place: Path) -> AsyncIterator[None]:
    """Partners that echo, a login, and a file with a feed for each way to authenticate and to fail."""
    async with (
        serve() as login,
        raw_partner(refuse) as refusing,
        raw_partner(break_off) as breaking,
    ):
        login.issuer.client = (PLANTED["CLIENT_ID"], PLANTED["CLIENT_SECRET"])
        text = ""
        for kind, url in (("refused", refusing), ("broken", breaking)):
            text += WHOLE_URL.replace("KIND", kind)
            (place / kind).write_text(
                f"{url}/pl4nted-1/hook?pl4nted-2=a&code=pl4nted-3-code", encoding="utf-8"
            )
        for way, auth in AUTHS.items():
            for kind, url in (("refused", refusing), ("broken", breaking)):
                feed = (
                    FEED.replace("NAME", f"{way}-{kind}")
                    .replace("AUTH", auth)
                    .replace("LOGIN", login.url)
                )
                text += feed.replace("PARTNER", url.removeprefix("http://"))
        (place / "feeds.toml").write_text(text, encoding="utf-8")
        yield


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo_database_url: str, redis_url: str
) -> Path:
    """A working directory, a source of two rows, and an environment that holds the secrets."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, 'n')", [(1,), (2,)])
        connection.commit()
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "REDIS_URL", redis_url.replace("redis://", f"redis://:{PLANTED['REDIS_SECRET']}@")
    )
    monkeypatch.setenv(
        "SOURCE_URL", f"sqlite:///{tmp_path}/shop.db?mode={PLANTED['SOURCE_SECRET']}"
    )
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    for kind in ("refused", "broken"):
        monkeypatch.setenv(f"WHOLE_{kind}_FILE", str(tmp_path / kind))
    return tmp_path


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Every log line written, ours and the libraries'."""
    caplog.set_level(logging.DEBUG)
    lines: list[str] = []
    with structlog.testing.capture_logs() as ours:
        yield lines
    lines += [repr(entry) for entry in ours] + [record.getMessage() for record in caplog.records]


async def run_until_it_fails(loaded: config.Config, feed: Feed) -> None:
    """Poll the feed, and send what was logged, as a worker would."""
    ledger = Ledger.at(loaded.settings.mongo_url.get_secret_value(), timedelta(seconds=5))
    source, queue = Source(open_engine("sqlite:///shop.db", timedelta(seconds=5))), MemoryQueue()
    terms = DeliverySettings("w", timedelta(minutes=1), 50, timedelta(milliseconds=10))
    await Polling(source, ledger, queue, message_wait=timedelta(minutes=1)).poll(feed)
    async with PartnerClient([feed]) as partner:
        for _, batch in queue.messages:
            await Delivering(ledger, partner, terms).deliver(feed, batch)
    await source.close()
    await ledger.close()


async def everything_in(ledger: Ledger) -> str:
    """Every document of the ledger, as text."""
    database = ledger.deliveries._collection.database
    names = await database.list_collection_names()
    return "\n".join([str(await database[name].find().to_list()) for name in names])


async def test_no_secret_is_in_a_log_line_or_the_ledger(
    place: Path, log_lines: list[str], ledger: Ledger
) -> None:
    async with place_of_feeds(place):
        loaded = checks.load()
        for feed in loaded.feeds.values():
            await run_until_it_fails(loaded, feed)
    kept = await everything_in(ledger)
    assert "[secret]" in kept  # the partners did echo them
    assert not traces(kept)
    assert not traces("\n".join(log_lines))
    paused = await ledger.pauses.paused()
    assert {name for name in loaded.feeds if name.endswith("refused")} <= set(paused)


async def test_no_secret_is_in_what_objects_say_of_themselves(place: Path) -> None:
    async with place_of_feeds(place):
        loaded = checks.load()
        shown = [
            loaded,
            loaded.settings,
            *loaded.feeds.values(),
            *map(prepare, loaded.feeds.values()),
        ]
        async with PartnerClient(loaded.feeds.values()) as client:
            shown += [client, *client._routes.values(), *client._authorizers.values()]
            texts = [f"{thing!r} {thing}" for thing in shown]
    assert not traces("\n".join(texts))


COMMANDS = [
    ["status", "--json"],
    ["doctor", "--json"],
    ["deliveries", "list", "--json"],
    ["deliveries", "show", "bearer-refused:1", "--json"],
    ["feeds", "list", "--json"],
    ["feeds", "list"],
    ["feeds", "preview", "whole-refused", "--key", "1"],
    ["feeds", "test", "whole-refused", "--send"],
    ["feeds", "test", "oauth2-refused", "--key", "1", "--send", "--record", "--json"],
    ["metrics", "--once"],
    ["feeds", "preview", "basic-refused", "--key", "1", "--json"],
    ["feeds", "preview", "api_key-refused", "--key", "1"],
    ["feeds", "preview", "oauth2-refused", "--key", "1", "--json"],
    ["feeds", "preview", "aws_sigv4-refused", "--key", "1", "--json"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_secret_is_in_what_a_command_prints(place: Path, command: list[str]) -> None:
    async def fill() -> None:
        async with place_of_feeds(place):
            loaded = checks.load()
            await run_until_it_fails(loaded, loaded.feed("bearer-refused"))

    asyncio.run(fill())
    result = CliRunner().invoke(main, command)
    assert result.output
    assert not traces(result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if "--json" in command:
        json.loads(result.stdout)


WRONG: Mapping[str, tuple[str, str]] = {
    "a misspelt way to authenticate": ('type = "bearer"', 'type = "bearr"'),
    "a misspelt field beside a secret": ("token =", "tokn ="),
    "a secret in the place of a table": (
        'auth = { type = "bearer", token = "${TOKEN}" }',
        'auth = "${TOKEN}"',
    ),
    "a secret that no header can carry": ("${TOKEN}", "${TOKEN}\\n"),
    "a header that is no text": ('"${HEADER}" }', '["${HEADER}"] }'),
    "a header that cannot be sent": ('"${HEADER}" }', '"${HEADER}\\n" }'),
    "a URL that is none": ("http://us:", "us:"),
    "signing that is no table": (
        'signing = { secrets = ["${SIGNING}"] }',
        'signing = "${SIGNING}"',
    ),
    "a signing secret that is none": ('["${SIGNING}"]', '["${TOKEN}"]'),
    "three signing secrets": ('["${SIGNING}"]', '["${SIGNING}", "${SIGNING}", "${SIGNING}"]'),
    "a status URL without a place for the key": ("{key}", "none"),
    "a template that cannot be": ('id = "$id"', '"*" = "${BODY}"'),
    "rules that do not go together": ('key = "id"', 'key = "id"\ncapture = "changes"'),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_no_secret_is_in_what_is_said_of_a_wrong_feed(place: Path, wrong: str) -> None:
    async with place_of_feeds(place):
        text = (place / "feeds.toml").read_text(encoding="utf-8")
    changed = text.replace(*WRONG[wrong])
    assert changed != text
    (place / "feeds.toml").write_text(changed, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        checks.load()
    assert not traces(str(caught.value))


async def test_no_secret_is_in_an_error_of_a_ledger_that_is_not_there() -> None:
    ledger = Ledger.at(
        "mongodb://us:pl4nted-password@127.0.0.1:1/orders", timedelta(milliseconds=200)
    )
    with pytest.raises(RowrelayError) as caught:
        await ledger.prepare()
    await ledger.close()
    assert not traces(str(caught.value))
