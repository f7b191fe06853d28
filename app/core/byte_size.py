"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re

_BYTES = re.compile(r"(\d+)\s*(|KiB|MiB|GiB)")
_UNIT_BYTES = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_bytes(value: object) -> object:
    """Turn `"256MiB"`, `"1GiB"` or a plain number of bytes into an integer; leave anything else to
    pydantic.

    Raises `ValueError` for text of another form.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    match = _BYTES.fullmatch(value.strip())
    if not match:
        raise ValueError('a number of bytes such as "268435456", "256MiB" or "1GiB"')
    return int(match[1]) * _UNIT_BYTES[match[2]]
