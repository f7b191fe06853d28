"""`python -m app report`, as an operator types it, over a real ledger."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from app.cli.main import main
from app.core.certificates import Certificate
from app.core.period import parse_period
from app.core.states import State
from app.ledger import Ledger
from app.reports.record import ALL
from app.testbed.embedded.stack import ROOT
from config import Settings
from tests.support.buckets import day_of, failed, minute_of
from tests.support.mailbox import mailbox

FEEDS = """\
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://partner.invalid/orders" }
[feeds.invoices]
table = "invoices"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://partner.invalid/invoices", auth = { type = "bearer", token = "${PARTNER_TOKEN}" } }
"""
HIDDEN = "s3cret-of-the-partner"
YESTERDAY = parse_period("yesterday", Settings(timezone="UTC").zone)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an operator sits, with the ledger and the folder of the reports."""

    environment: dict[str, str]
    ledger: Ledger
    folder: Path

    async def run(
        self, *arguments: str, code: int = 0, settings: dict[str, str] | None = None
    ) -> str:
        """What the command prints, on stdout and stderr; its exit code is looked at."""
        environment = self.environment | (settings or {})
        ran = await asyncio.to_thread(
            CliRunner().invoke, main, ["report", *arguments], env=environment
        )
        assert ran.exit_code == code, (ran.output, ran.exception)
        return str(ran.output)

    async def run_process(self, *arguments: str) -> str:
        """The same by a process of its own, which must succeed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "report", *arguments, env={**os.environ, **self.environment}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        told, wrong = await asyncio.wait_for(process.communicate(), timeout=100)
        assert process.returncode == 0, wrong.decode()
        return told.decode()


@pytest.fixture
async def desk(ledger: Ledger, mongo_database_url: str, tmp_path: Path) -> Desk:
    """Yesterday has an hour of statistics, and a certificate."""
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    await ledger._database["stats"].insert_many(
        day_of("orders", 600, bad=True, start=YESTERDAY.start, minutes=60)
    )
    rows = {State.DELIVERED: 597, State.DEAD: 3}
    at = YESTERDAY.end + timedelta(seconds=1)
    await ledger.certificates.save(Certificate("orders", at, 600, 600, rows, begun_at=at))
    ours = {
        "MONGO_URL": mongo_database_url, "SOURCE_URL": "sqlite:///none.db", "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "REPORTS_DIR": str(tmp_path / "reports"), "PARTNER_TOKEN": HIDDEN, "COLUMNS": "200",
    }  # fmt: skip
    return Desk(ours, ledger, tmp_path / "reports")


async def kept(desk: Desk) -> int:
    return await desk.ledger._database["reports"].count_documents({})


async def test_the_report_is_printed_and_nothing_is_changed(desk: Desk) -> None:
    text = await desk.run_process("--period", YESTERDAY.name)
    assert "503 Service Unavailable" in text
    assert (
        "orders: complete: 600 source rows = 597 delivered + 3 dead + 0 skipped + 0 cancelled + 0 open"
        in text
    )
    assert "python -m app deliveries show orders:" in text
    assert await kept(desk) == 0
    assert not desk.folder.exists()


@pytest.mark.parametrize("columns", [60, 80, 99])
async def test_a_report_on_a_narrow_terminal_keeps_every_name_and_what_can_be_copied(
    desk: Desk, columns: int
) -> None:
    text = await desk.run("--period", YESTERDAY.name, settings={"COLUMNS": str(columns)})
    figures, *tables = text.split("Feeds")
    lines = figures.splitlines()
    for name in (
        "rows read",
        "delivered",
        "first-attempt success",
        "retries",
        "dead",
        "statuses",
        "until delivered",
    ):
        assert [line for line in lines if line.startswith(f"{name} ")], name
    assert all(len(line) <= columns for line in lines)
    shown = " ".join("".join(tables).split())
    for column in ("feed", "read", "delivered", "retries", "dead", "open", "count", "reason"):
        assert column in shown
    assert "python -m app deliveries show orders:" in shown, (
        "in full, below the table that had no room for it"
    )


async def test_a_report_is_printed_in_each_form(desk: Desk) -> None:
    whole = orjson.loads(await desk.run("--period", YESTERDAY.name, "--json"))
    orders = orjson.loads(
        await desk.run("--period", YESTERDAY.name, "--feed", "orders", "--format", "json")
    )
    assert (whole["feed"], orders["feed"]) == (ALL, "orders")
    assert whole["totals"] == orders["totals"]
    assert [line["feed"] for line in whole["feeds"]] == ["invoices", "orders"]
    lines = list(
        csv.DictReader(io.StringIO(await desk.run("--period", YESTERDAY.name, "--format", "csv")))
    )
    assert int(lines[0]["delivered"]) == whole["totals"]["delivered"] > 0
    page = desk.folder.parent / "page.html"
    assert (
        await desk.run("--period", YESTERDAY.name, "--format", "html", "--output", str(page)) == ""
    )
    assert "<h1>All feeds" in page.read_text()


async def test_a_report_goes_to_a_pipe_a_link_and_a_file_as_they_are(desk: Desk) -> None:
    pipe, link, file = (desk.folder.parent / name for name in ("pipe", "link", "file"))
    os.mkfifo(pipe)
    file.touch(mode=0o600)
    link.symlink_to(file)
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_bytes))
    for output in (pipe, link):
        await desk.run("--period", YESTERDAY.name, "--format", "csv", "--output", str(output))
    assert await reading == file.read_bytes() != b""
    assert (pipe.is_fifo(), link.is_symlink(), file.stat().st_mode & 0o777) == (True, True, 0o600)


async def test_a_day_whose_statistics_are_deleted_is_not_made_up(desk: Desk) -> None:
    await desk.ledger._database["purges"].insert_one(
        {"_id": "orders", "stats_before": YESTERDAY.end}
    )
    text = await desk.run("--period", YESTERDAY.name, "--keep", code=2)
    assert (
        f"{YESTERDAY.name}: statistics of a feed are deleted (retention.stats_days), and no report was kept"
        in text
    )
    assert await kept(desk) == 0


async def test_a_kept_report_is_in_the_ledger_and_in_the_folder(desk: Desk) -> None:
    await desk.run("--period", YESTERDAY.name, "--keep", "--feed", "orders")
    assert await kept(desk) == 3
    assert (desk.folder / "orders" / f"{YESTERDAY.name}.html").exists()
    assert (desk.folder / "_all" / f"{YESTERDAY.name}.csv").exists()


async def test_a_running_day_is_shown_and_not_kept(desk: Desk) -> None:
    assert "still running" in await desk.run()
    assert "it is kept when it is over" in await desk.run("--keep", code=2)


async def test_a_report_is_sent_on_demand(desk: Desk) -> None:
    async with mailbox() as box:
        settings = {
            "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(box.port), "SMTP_SECURITY": "none",
            "REPORT_MAIL_FROM": "reports@example.org", "REPORT_MAIL_TO": "ops@example.org, audit@example.org",
        }  # fmt: skip
        await desk.run("--period", YESTERDAY.name, "--feed", "orders", "--send", settings=settings)
        box.answer = "554 no thanks"
        assert "554" in await desk.run(
            "--period", YESTERDAY.name, "--send", code=1, settings=settings
        )
    assert [message["Subject"].split(":")[0] for message in box.messages] == ["orders"]
    assert box.recipients == [["ops@example.org", "audit@example.org"]]


async def test_mistakes_are_said_in_one_line(desk: Desk) -> None:
    assert "--period: found 'never'" in await desk.run("--period", "never", code=2)
    assert "has not begun" in await desk.run("--period", "2999-01-01", code=2)
    assert "feed 'nobody': not configured" in await desk.run("--feed", "nobody", code=2)
    assert "no way is configured" in await desk.run("--period", YESTERDAY.name, "--send", code=2)
    assert "--output: needs --format" in await desk.run("--output", "page.html", "--send", code=2)
    half = {"SMTP_HOST": "mail.example.org", "REPORT_MAIL_TO": "ops@example.org"}
    text = await desk.run(code=2, settings=half)
    assert "SMTP_HOST" in text
    assert "REPORT_MAIL_FROM" in text
    wrong = {"REPORT_WEBHOOK_URL": "ftp://x/s3cret", "REPORT_WEBHOOK_SECRET": "s3cret"}
    text = await desk.run(code=2, settings=wrong)
    assert "an http or https URL" in text
    assert "base64 of 24 to 64 bytes" in text
    assert "s3cret" not in text


async def test_no_report_holds_a_payload_or_a_secret(desk: Desk) -> None:
    reason = 'success check: name is "Zoë Smith", not \'ok\'; row {"iban": "DE02120300000000202051"} refused'
    stats = desk.ledger._database["stats"]
    await stats.insert_one(
        minute_of("invoices", YESTERDAY.start, outcomes={"dead": 1}, failed=failed(reason, 1, 1))
    )
    for form in ("table", "json", "csv", "html"):
        text = await desk.run("--period", YESTERDAY.name, "--format", form)
        for secret in (HIDDEN, "Zoë", "DE0212", desk.environment["MONGO_URL"]):
            assert secret not in text
