"""The units in deploy/systemd are what systemd takes, and give a process no more than it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")


def test_there_is_a_unit_for_each_process() -> None:
    assert [unit.stem for unit in UNITS] == [
        "rowrelay-beat",
        "rowrelay-console",
        "rowrelay-flower",
        "rowrelay-metrics",
        "rowrelay-worker@",
    ]


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_to_say_about_it(unit: Path, tmp_path: Path) -> None:
    text = re.sub(
        r"^ExecStart=\S+",
        "ExecStart=/bin/true",
        unit.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    copy = tmp_path / unit.name.replace("@", "@one")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    about_ours = [line for line in done.stderr.splitlines() if "rowrelay" in line]
    assert (done.returncode, about_ours) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_no_root_and_writes_nowhere_but_in_its_own_place(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    for line in (
        "User=rowrelay",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=rowrelay",
    ):
        assert f"\n{line}\n" in text
