"""`doctor` calls a server by its own name, not by that of the Redis it is compatible with."""

from __future__ import annotations

from typing import Any

import pytest

from app.reads.doctor.broker import product_of


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"redis_version": "7.2.4"}, "Redis 7.2.4"),
        (
            {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"},
            "Valkey 9.1.2 (as Redis 7.2.4)",
        ),
        (
            {"redis_version": "7.4.0", "dragonfly_version": "df-v1.34.1"},
            "Dragonfly v1.34.1 (as Redis 7.4.0)",
        ),
        ({"redis_version": "7.4.3", "garnet_version": "1.0.84"}, "Garnet 1.0.84 (as Redis 7.4.3)"),
        (
            {"redis_version": "7.4.0", "rlec_version": "7.22.0-28"},
            "Redis Enterprise 7.22.0-28 (as Redis 7.4.0)",
        ),
        ({}, "Redis ?"),
    ],
)
def test_a_server_is_called_what_it_is(info: dict[str, Any], said: str) -> None:
    assert product_of(info) == said
