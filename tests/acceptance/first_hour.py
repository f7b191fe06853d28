"""Writes docs/first-hour.md anew from a real run: its commands and prose stay, what they print is
taken from the run.

python -m tests.acceptance.first_hour --write              # with the `rowrelay` of this environment
python -m tests.acceptance.first_hour --write --install    # with one that pip installs, as the page says
"""

from __future__ import annotations

import argparse
import getpass
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from app.testbed.embedded.server import free_port
from app.testbed.embedded.servers import EmbeddedMongo, EmbeddedRedis
from app.testbed.embedded.stack import ROOT
from tests.support.transcript import Block, Page, Shell

PAGE = ROOT / "docs" / "first-hour.md"
LEDGER = (
    "mongodb://rowrelay:ledger-s3cret@127.0.0.1:27017/celery_logs?replicaSet=rs0&authSource=admin"
)
VARIES = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "<moment>"),
    (r"\d+\sms", "<duration>"),
    (r"(< ?)?\d+(\.\d+)?\s(s|min|h)(?= ago|\s|$|[,;:)\]])", "<duration>"),
    (r"(?<=process\s)\d+|(?<=erp:)\d+", "<pid>"),
    (r"(Valkey|Redis) [\d.]+( \(as Redis [\d.]+\))?", "<Redis>"),
    (r"(MongoDB|sqlite|Python) [\d.]+", r"<\1>"),
    (r"(?<=  )<?\d+\.\d+(?=  )", "<rate>"),
    (r"(^|(?<=\s\s))(\S(?:(?!\s\s).){7})(?:(?!\s\s).)*?…", r"\2…"),
    ("─+", ""),
)
"""What differs from run to run, and what stands for it: moments, durations, processes, versions,
rows a second, where a cell is cut for want of room, rules as long as a table is wide."""

_ENTRY_POINT = "#!{python}\nimport sys\nfrom app.__main__ import run\nsys.exit(run())\n"
"""What pip installs as `rowrelay`."""
_NO_CHECKOUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")


@contextmanager
def a_new_machine(directory: Path, *, install: bool = False) -> Iterator[Shell]:
    """A shell in an empty directory, Redis and MongoDB, and a checkout to install from.

    `install`: the page's own commands install it; else `rowrelay` is on the PATH, out of this
    environment.
    """
    with ExitStack() as running:
        redis = running.enter_context(EmbeddedRedis(directory / "redis"))
        mongo = running.enter_context(EmbeddedMongo(directory / "mongo"))
        port, home, programs = free_port(), directory / "shop", Path(sys.executable).parent
        (home / "venv").mkdir(parents=True)
        stand_ins = {
            LEDGER: mongo.url,
            "127.0.0.1:6379": f"127.0.0.1:{redis.port}",
            "127.0.0.1:27017": f"127.0.0.1:{mongo.port}",
            "127.0.0.1:18080": f"127.0.0.1:{port}",
            "--port 18080": f"--port {port}",
            "'127.0.0.1', 18080": f"'127.0.0.1', {port}",
            "~/rowrelay": str(directory / "rowrelay"),
            "/home/ada/shop": str(home),
            "ada@erp": f"{getpass.getuser()}@{socket.gethostname()}",
            "erp": socket.gethostname(),
        }
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
        }
        if install:
            shutil.copytree(ROOT, directory / "rowrelay", ignore=_NO_CHECKOUT)
        else:
            (home / "venv" / "bin").symlink_to(_with_entry_point(directory / "programs", programs))
            environment |= {
                "PATH": f"{home}/venv/bin:{programs}:{environment['PATH']}",
                "PYTHONPATH": str(ROOT),
            }
            stand_ins["/home/ada/shop/venv/bin"] = str(programs)
        yield running.enter_context(Shell(directory, home, environment, stand_ins))


def _with_entry_point(directory: Path, programs: Path) -> Path:
    directory.mkdir()
    entry_point = directory / "rowrelay"
    entry_point.write_text(_ENTRY_POINT.format(python=programs / "python"), encoding="utf-8")
    entry_point.chmod(0o755)
    return directory


def typed(page: Page, shell: Shell, *, install: bool = False) -> Page:
    """The page as this run would have it. A block that installs stays as it is, unless it was run."""

    def type_block(block: Block) -> Block:
        return block if block.once and not install else shell.type_block(block)

    return page.typed(type_block)


def main() -> None:
    """Write the page, or say with exit code 1 that it is not as a run has it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.first_hour", description=__doc__
    )
    parser.add_argument(
        "--write", action="store_true", required=True, help="write docs/first-hour.md"
    )
    parser.add_argument(
        "--install", action="store_true", help="have pip install it, from a package index"
    )
    install = bool(parser.parse_args().install)
    page = Page.read(PAGE.read_text(encoding="utf-8"))
    with (
        TemporaryDirectory() as directory,
        a_new_machine(Path(directory).resolve(), install=install) as shell,
    ):
        PAGE.write_text(str(typed(page, shell, install=install)), encoding="utf-8")


if __name__ == "__main__":
    main()
