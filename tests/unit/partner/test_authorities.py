"""The authorities that the environment names are checked without reading them again and again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.partner import problems as checked
from tests.support.feeds import make_feed


def test_authorities_are_read_once_until_their_file_is_written_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, feed, read = tmp_path / "ca.pem", make_feed(), list[object]()
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(checked, "tls_context", read.append)
    file.touch()
    for expected in (1, 1):
        assert not [*checked.problems(feed)]
        assert len(read) == expected
    os.utime(file, (1, 1))
    assert not [*checked.problems(feed)]
    assert len(read) == 2


def test_authorities_that_cannot_be_read_are_told_until_they_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    for _ in range(2):
        (problem,) = checked.problems(make_feed())
        assert (problem.field, problem.found) == ("SSL_CERT_FILE", "No such file or directory")
