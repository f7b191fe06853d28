"""What counts as a success, where a feed asks for more than 2xx."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.feeds.partner import Success
from app.partner.success import shortfall

OK = Success.model_validate({"json": {"path": "result.items.0.ok", "equals": True}})


def test_a_status_that_is_none_of_those_asked_for_is_told() -> None:
    success = Success(status=(200, 202))
    assert shortfall(success, 202, b"") is None
    assert shortfall(success, 204, b"") == "success check: the status is none of 200, 202"


@pytest.mark.parametrize(
    ("body", "lack"),
    [
        (b'{"result":{"items":[{"ok":true}]}}', None),
        (b'{"result":{"items":[{"ok":false}]}}', "result.items.0.ok is false, not true"),
        (b'{"result":{"items":[{"ok":1}]}}', "result.items.0.ok is 1, not true"),
        (b'{"result":{"items":[]}}', "result.items.0.ok is not in the answer"),
        (b'{"result":"ok"}', "result.items.0.ok is not in the answer"),
        (b"<html>", "the answer is no JSON of at most 65536 bytes"),
        (b"", "the answer is no JSON of at most 65536 bytes"),
    ],
)
def test_a_json_answer_must_hold_what_is_asked_for(body: bytes, lack: str | None) -> None:
    assert shortfall(OK, 200, body) == (None if lack is None else f"success check: {lack}")


@pytest.mark.parametrize(
    ("equals", "body"), [("done", b'{"s":"done"}'), (1, b'{"s":1.0}'), (0.5, b'{"s":0.5}')]
)
def test_texts_and_numbers_can_be_asked_for(equals: Any, body: bytes) -> None:
    success = Success.model_validate({"json": {"path": "s", "equals": equals}})
    assert shortfall(success, 200, body) is None


def test_a_long_value_is_cut_in_the_reason() -> None:
    success = Success.model_validate({"json": {"path": "s", "equals": "x"}})
    assert len(shortfall(success, 200, b'{"s":"' + b"y" * 9999 + b'"}') or "") < 200


@pytest.mark.parametrize(
    "wrong", [{"status": [404]}, {"status": []}, {"json": {"path": "a"}}, {"otherwise": "skip"}]
)
def test_a_check_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Success.model_validate(wrong)
