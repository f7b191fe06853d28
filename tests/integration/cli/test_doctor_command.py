"""`doctor`: a line a check at 80 columns, of all that a worker will need; and nothing is sent for
it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from typer.testing import CliRunner

from app import VERSION
from app.cli.main import main
from app.feeds.auth import ApiKeyAuth
from app.partner.client import PartnerClient
from tests.support.mailbox import mailbox
from tests.support.partners import feed_to, raw_partner, recording

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
[feeds.orders.partner]
url = "{url}/rows"
auth = {{ type = "bearer", token = "${{PARTNER_TOKEN}}" }}
headers = {{ X-Customer = "$customer" }}
"""
HIDDEN = "s3cret-of-the-partner"
HEAD_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nDate: Sat, 21 Nov 2020 12:00:00 GMT\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Found:
    """What `doctor` printed."""

    code: int
    text: str

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """Of `--json`: name → check."""
        return {check["name"]: check for check in orjson.loads(self.text)["checks"]}


Run = Callable[..., Awaitable[Found]]


@pytest.fixture
def run(tmp_path: Path, mongo_database_url: str, clean_redis_url: str) -> Run:
    """Runs `doctor` before a partner at that URL, with one row in the source."""
    with closing(sqlite3.connect(tmp_path / "source.db")) as source:
        source.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT)")
        source.execute("INSERT INTO orders VALUES (17, 'Zoe')")
        source.commit()
    environment = {
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path / 'source.db'}",
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "REPORTS_DIR": str(tmp_path / "reports" / "of" / "ours"),
        "PARTNER_TOKEN": HIDDEN,
        "CONNECT_TIMEOUT": "5s",
    }

    async def ran(url: str, *arguments: str, columns: int = 80, **settings: str) -> Found:
        (tmp_path / "feeds.toml").write_text(FEEDS.format(url=url), encoding="utf-8")
        there = environment | {"COLUMNS": str(columns)} | settings
        done = await asyncio.to_thread(CliRunner().invoke, main, ["doctor", *arguments], env=there)
        assert HIDDEN not in done.output
        return Found(done.exit_code, done.stdout)

    return ran


async def test_a_check_is_a_line_of_80_columns_and_all_that_a_worker_needs_is_checked(
    run: Run, tmp_path: Path, clean_redis_url: str
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(recording(requests)) as url, mailbox() as box:
        ways = {
            "ARCHIVE_DIR": str(archive),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(box.port),
            "SMTP_SECURITY": "none",
            "REPORT_MAIL_FROM": "Rowrelay <rowrelay@example.com>",
            "REPORT_MAIL_TO": "ops@example.com, boss@example.com",
            "REPORT_WEBHOOK_URL": f"{url}/hooks/s3cret-path",
        }
        shown = await run(url, **ways)
        told = await run(url, "--json", **ways)
    assert (shown.code, told.code) == (0, 0), shown.text + told.text
    assert (box.messages, requests) == ([], []), "nothing was sent"
    checks = told.checks
    title, _, _, *lines = shown.text.splitlines()
    assert title.strip() == "Doctor"
    assert all(len(line) <= 80 for line in lines[: len(checks)])
    assert [line.split("  ")[0].strip() for line in lines[: len(checks)]].count("") == 0
    with redis.Redis.from_url(clean_redis_url) as client:
        own: Any = client.info("server")
    product = (
        f"Valkey {own['valkey_version']}"
        if "valkey_version" in own
        else f"Redis {own['redis_version']}"
    )
    assert checks["broker (REDIS_URL)"]["detail"].startswith(product)
    assert f"Rowrelay {VERSION}, Python 3." in checks["versions"]["detail"]
    assert "celery 5." in checks["versions"]["detail"]
    assert "it is made with the first file" in checks["reports (REPORTS_DIR)"]["detail"]
    assert list(archive.iterdir()) == []
    assert not (tmp_path / "reports").exists()
    assert checks["archive (ARCHIVE_DIR)"]["detail"].startswith(f"{archive}: writable, ")
    assert checks["mail (SMTP_HOST)"]["detail"].endswith(
        "takes mail to ops@example.com, boss@example.com; nothing was sent"
    )
    assert (
        checks["webhook (REPORT_WEBHOOK_URL)"]["detail"]
        == f"{url.removeprefix('http://')} accepts connections"
    )
    assert "s3cret-path" not in shown.text + told.text
    assert checks["feed orders: newest row"]["detail"].endswith(" bytes, with X-Customer")
    assert "ledger: clock" in checks
    assert "file descriptors" in checks


async def test_what_cannot_be_written_to_or_takes_no_mail_fails_with_what_to_do(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("", encoding="utf-8")
    async with raw_partner(recording([])) as url, mailbox() as box:
        box.refuses = {"gone@example.com"}
        found = await run(
            url, "--json", REPORTS_DIR=str(tmp_path / "a file" / "reports"), ARCHIVE_DIR=str(tmp_path / "none"),
            SMTP_HOST="127.0.0.1", SMTP_PORT=str(box.port), SMTP_SECURITY="none",
            REPORT_MAIL_FROM="rowrelay@example.com", REPORT_MAIL_TO="gone@example.com",
            REPORT_WEBHOOK_URL="http://127.0.0.1:1/hook",
        )  # fmt: skip
    failed = {name: check["detail"] for name, check in found.checks.items() if not check["ok"]}
    assert found.code == 1
    assert failed["reports (REPORTS_DIR)"] == f"{tmp_path / 'a file'}: is no directory"
    assert failed["archive (ARCHIVE_DIR)"].startswith(
        f"{tmp_path / 'none'}: does not exist: make it"
    )
    assert "550" in failed["mail (SMTP_HOST)"]
    assert failed["webhook (REPORT_WEBHOOK_URL)"] == "127.0.0.1:1: Connection refused"
    assert set(failed) == {
        "reports (REPORTS_DIR)", "archive (ARCHIVE_DIR)", "mail (SMTP_HOST)", "webhook (REPORT_WEBHOOK_URL)"
    }  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_without_the_right_to_write_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    async with raw_partner(recording([])) as url:
        found = await run(url, "--json", REPORTS_DIR=str(tmp_path / "theirs"))
    assert "workers must be able to write there" in found.checks["reports (REPORTS_DIR)"]["detail"]


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (HEAD_OK, "ok", "answers 200 to HEAD"),
        (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\n",
            "warning",
            "look at feeds.orders.partner.auth",
        ),
        (
            b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 12\r\n\r\n",
            "ok",
            "it may not know HEAD",
        ),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "warning", "it is not well just now"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: /there\r\n\r\n",
            "warning",
            "a redirect is not followed",
        ),
    ],
)
async def test_a_partner_is_asked_with_head_where_that_is_wanted(
    run: Run, answer: bytes, level: str, said: str
) -> None:
    requests: list[tuple[bytes, bytes]] = []
    async with raw_partner(recording(requests, answer)) as url:
        found = await run(url, "--ask-partners", "--json")
    assert found.code == 0, found.text
    check = found.checks["partner orders: HEAD"]
    assert (check["level"], said in check["detail"]) == (level, True), check
    ((head, body),) = requests
    assert head.startswith(b"head /rows http/1.1\r\n")
    assert f"authorization: bearer {HIDDEN}\r\n".encode() in head
    assert b"content-" not in head
    assert body == b""
    clocks = [name for name in found.checks if name == "partner orders: clock"]
    assert clocks == (["partner orders: clock"] if answer == HEAD_OK else [])


async def test_an_answer_to_head_ends_with_its_head_whatever_it_announces() -> None:
    requests: list[tuple[bytes, bytes]] = []
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with raw_partner(recording(requests, chunked)) as url:
        feed = feed_to(
            url, ApiKeyAuth.model_validate({"type": "api_key", "header": "X-Key", "key": "k"})
        )
        async with PartnerClient([feed]) as client:
            assert (await client.head(feed)).status == 200
    assert b"x-key: k\r\n" in requests[0][0]


async def test_a_server_that_is_not_reached_is_said_in_the_system_s_words(run: Run) -> None:
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "CONNECT_TIMEOUT": "1s"}
    found = await run("http://127.0.0.1:1", "--json", **nowhere)
    failed = {name: check["detail"] for name, check in found.checks.items() if not check["ok"]}
    assert failed == {
        "broker (REDIS_URL)": "127.0.0.1:1: Connection refused",
        "partner orders": "127.0.0.1:1: Connection refused",
    }
