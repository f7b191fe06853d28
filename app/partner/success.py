"""Whether a 2xx meets the feed's definition of success."""

from __future__ import annotations

from typing import Any

import orjson

from app.feeds.partner import JsonCheck, Scalar, Success

SUCCESS_LIMIT = 2**16
"""Bytes of an answer that are read for `success.json`."""

_MISSING = object()
_SHOWN = 60


def shortfall(success: Success, status: int, body: bytes) -> str | None:
    """What an answer lacks, in one line; `None` where it is a success. Takes a status of 2xx and
    the body's start.
    """
    if success.status is not None and status not in success.status:
        return f"success check: the status is none of {', '.join(map(str, success.status))}"
    if success.check is None:
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"success check: the answer is no JSON of at most {SUCCESS_LIMIT} bytes"
    return _difference(success.check, _found(answer, success.check.path))


def _difference(check: JsonCheck, found: Any) -> str | None:
    if found is _MISSING:
        return f"success check: {check.path} is not in the answer"
    if _same(found, check.equals):
        return None
    return f"success check: {check.path} is {_shown(found)}, not {_shown(check.equals)}"


def _found(answer: Any, path: str) -> Any:
    """The value at `path`, or `_MISSING`."""
    for name in path.split("."):
        if isinstance(answer, dict):
            answer = answer.get(name, _MISSING)
        elif isinstance(answer, list) and name.isdecimal() and int(name) < len(answer):
            answer = answer[int(name)]
        else:
            return _MISSING
    return answer


def _same(found: Any, wanted: Scalar) -> bool:
    """Equal in JSON: 1 and 1.0 are, 1 and true are not."""
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
