"""`console` at a shell: an operator's mistake gets one message that says what to do, and exit code 2 or 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import command

FEEDS = """
[feeds.orders]
table = "orders"
key = "id"
cursor = { strategy = "identity", column = "id" }
partner = { url = "http://partner.invalid/rows" }
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "feeds.toml").write_text(FEEDS, encoding="utf-8")
    return {
        "ROWRELAY_CONFIG": str(tmp_path),
        "FEEDS_FILE": str(tmp_path / "feeds.toml"),
        "SOURCE_URL": f"sqlite:///{tmp_path}/source.db",
        "CONSOLE_DATABASE_URL": f"sqlite:///{tmp_path}/console.db",
    }


@pytest.mark.parametrize(
    ("arguments", "changed", "said"),
    [
        (("migrate", "9999"), {}, "found 9999; one of head, base, 0001"),
        (("add-user", "bo", "--role", "boss"), {}, "takes 'viewer', 'operator' or 'admin'"),
        (("add-user", "b o"), {}, "beginning with a letter or digit"),
        (("migrate",), {"CONSOLE_DATABASE_URL": "sqlite:////nowhere/x.db"}, "cannot be opened"),
        (
            ("add-user", "bo"),
            {"CONSOLE_DATABASE_URL": "sqlite:////nowhere/x.db"},
            "cannot be opened",
        ),
        (
            ("migrate",),
            {"CONSOLE_DATABASE_URL": "postgresql://ada:hush-hush@127.0.0.1:9/x"},
            "postgresql 127.0.0.1:9/x, which cannot be opened: Connection refused",
        ),
        (("add-user", "bo"), {"CONSOLE_DATABASE_URL": "postgresql://a@h/x"}, "CONSOLE_SECRET"),
        (("add-user", "bo"), {"CONSOLE_SECRET": "short"}, "at least 32 characters"),
    ],
)
def test_a_mistake_is_one_message_that_says_what_to_do(
    environment: dict[str, str], arguments: tuple[str, ...], changed: dict[str, str], said: str
) -> None:
    ran = command(environment | changed, "console", *arguments)
    assert ran.returncode in (1, 2)
    assert said in ran.stderr
    assert "hush-hush" not in ran.stderr
