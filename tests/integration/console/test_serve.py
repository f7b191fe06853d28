"""`python -m app console` as a process: it listens, reads feeds.toml anew on SIGHUP, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

FEED = """
[feeds.{name}]
table = "orders"
key = "id"
cursor = {{ strategy = "identity", column = "id" }}
partner = {{ url = "http://partner.invalid/rows" }}
"""


async def _until(stream: asyncio.StreamReader, part: str) -> str:
    """The line that has it."""
    async with asyncio.timeout(60):
        while line := (await stream.readline()).decode():
            if part in line:
                return line
    pytest.fail(f"it ended without saying {part!r}")


async def test_a_console_reads_feeds_anew_on_sighup_and_ends_on_sigterm(
    tmp_path: Path, mongo_database_url: str, clean_redis_url: str
) -> None:
    (tmp_path / "feeds.toml").write_text(FEED.format(name="orders"), encoding="utf-8")
    environment = os.environ | {
        "ROWRELAY_CONFIG": str(tmp_path),
        "MONGO_URL": mongo_database_url,
        "REDIS_URL": clean_redis_url,
        "SOURCE_URL": f"sqlite:///{tmp_path}/source.db",
        "CONSOLE_DATABASE_URL": f"sqlite:///{tmp_path}/console.db",
        "CONSOLE_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "console",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    try:
        url = (await _until(process.stdout, "listens at")).split()[-1]
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health/ready")).json()["ready"]
        more = FEED.format(name="orders") + FEED.format(name="refunds")
        (tmp_path / "feeds.toml").write_text(more, encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert "refunds" in await _until(process.stdout, "configuration_read_anew")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
