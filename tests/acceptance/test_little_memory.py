"""Rows that together are many times what a process may have in memory go through it, whatever page
and batch say.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.testbed.embedded.source import connect, create_source
from tests.support.little_memory import BUDGET

ROWS, ROW_BYTES = 80, 900_000
BESIDE_MIB = 100
"""What the process may take beside what it has at its start: less than half of what a page of all
these rows takes.
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory"
)
def test_a_process_of_little_memory_delivers_rows_of_900_kb(
    tmp_path: Path, mongo_database_url: str
) -> None:
    url = create_source(tmp_path / "source.db")
    with closing(connect(tmp_path / "source.db")) as source:
        source.execute("BEGIN")
        rows = ((f"{number}" + "x" * ROW_BYTES,) for number in range(ROWS))
        source.executemany(
            "INSERT INTO orders (customer, amount, note, created_at) VALUES ('c', 1, ?, '2026-01-01 10:00:00')",
            rows,
        )
        source.execute("COMMIT")
    command = [
        sys.executable,
        "-m",
        "tests.support.little_memory",
        mongo_database_url,
        url,
        str(BESIDE_MIB),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    delivered, peak = done.stdout.split()[-2:]
    assert int(delivered) == ROWS
    assert 0 < int(peak) <= BUDGET // 2**20
