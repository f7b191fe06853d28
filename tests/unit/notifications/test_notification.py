"""What a message says: every event has its words, and names a command that there is."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from app.cli.main import main
from app.core.events import Event
from app.notifications.notification import WORDS, Notification

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PAGE = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("event", Event)
def test_an_event_names_a_command_that_there_is_and_is_in_the_docs(event: Event) -> None:
    stored = {"_id": "x", "event": event.value, "subject": "a b", "said": "why", "began_at": NOW}
    told = Notification(
        stored | {"message": {"kind": "began", "number": 1, "at": NOW}}, ZoneInfo("UTC")
    )
    *_, last = told.text().splitlines()
    _, _, command = last.rpartition(": ")
    first, *words = shlex.split(command)
    assert WORDS[event].wrong in told.subject
    assert "a b" in words or "{subject}" not in WORDS[event].command
    assert f"| `{event}` |" in PAGE
    if first == "python":
        ran = CliRunner().invoke(main, [*words[2:], "--help"])
        assert ran.exit_code == 0, ran.output
    else:
        assert (first, words[:2]) == ("celery", ["-A", "celery_app"])
