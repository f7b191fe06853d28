"""The first hour, as docs/first-hour.md tells it: every command is typed, and prints what the page
shows.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from app.testbed.embedded.servers import EmbeddedMongo
from config import Settings
from tests.acceptance.first_hour import PAGE, VARIES, a_new_machine, typed
from tests.support.transcript import COLUMNS, Command, Page, difference, unfolded

PROGRAMS = ("bash", "curl", "sqlite3")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page.read(PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def programs() -> None:
    """What the page types besides our own. Without one the test is skipped, but fails under CI."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"not on the PATH: {', '.join(missing)}"
        )


@pytest.mark.usefixtures("programs")
@pytest.mark.skipif(not EmbeddedMongo().genuine, reason="the page is of a genuine mongod")
def test_every_command_of_the_first_hour_prints_what_the_page_shows(
    page: Page, tmp_path: Path
) -> None:
    with a_new_machine(tmp_path) as shell:
        here = typed(page, shell)
    differing = [
        difference(*pair, VARIES) for pair in zip(page.commands, here.commands, strict=True)
    ]
    assert not any(differing), "python -m tests.acceptance.first_hour --write\n" + "\n".join(
        filter(None, differing)
    )


def test_the_page_is_read_and_written_as_it_stands(page: Page) -> None:
    assert str(page) == PAGE.read_text(encoding="utf-8")
    assert len(page.commands) > 20
    assert not [
        line
        for command in page.commands
        for line in command.shown.split("\n")
        if len(line) > COLUMNS
    ]


def test_there_is_a_mistake_in_each_kind_of_setting(page: Page) -> None:
    told = unfolded("\n".join(command.shown for command in page.commands))
    kinds: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        kinds.setdefault(str(field.annotation).partition("[")[0], []).append(name.upper())
    without = [
        kind
        for kind, names in kinds.items()
        if not any(f".env: {name}: found" in told for name in names)
    ]
    assert [kind for kind in without if "Path" not in kind] == [], "any text is a path"


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("took 12 ms, 3 s ago", "took 7 ms, 40 s ago", True),
        ("id    state\n──────────\norders  dead", "id      state\n────\norders  dead", True),
        ("ok  one row read, o…  8 ms", "ok  one row read, or none…  12 ms", True),
        ("ok  one row read, o…  8 ms", "ok  two rows read, o…  8 ms", False),
        (f"{'a':73} 891 ms\nb", f"{'a':73} 62 ms\nb", True),
        ("dead  1", "dead  2", False),
        ("orders:K-1007", "orders:K-1008", False),
        ("a", "", False),
    ],
)
def test_what_varies_is_no_difference_and_all_else_is(shown: str, printed: str, same: bool) -> None:
    assert (difference(Command("x", shown), Command("x", printed), VARIES) == "") is same
