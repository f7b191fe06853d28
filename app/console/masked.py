"""A row's content as it is shown to who may not see it: its form without its values."""

from __future__ import annotations

from typing import Any

import orjson

HIDDEN = "•••"


def masked_body(body: str) -> str:
    """A body with every value masked; names, lists and their lengths stay. What is no JSON is masked
    whole."""
    try:
        read = orjson.loads(body)
    except ValueError:
        return HIDDEN if body else ""
    return orjson.dumps(_masked(read), option=orjson.OPT_INDENT_2).decode()


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return None if value is None else HIDDEN
