"""The filter of deliveries: one in an address, in the API and as what the ledger is asked."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.console.deliveries.ref import read_ref, ref_of
from app.console.deliveries.schemas import DeliveryFilter
from app.console.errors import NotFound
from app.core.states import State
from app.ledger.selection import Between, Selection


@given(st.text(min_size=1, max_size=1024).filter(lambda text: text.isprintable()))
def test_every_id_has_a_ref_that_an_address_can_hold_and_that_reads_back(delivery_id: str) -> None:
    ref = ref_of(delivery_id)
    assert ref.replace("-", "").replace("_", "").isalnum()
    assert read_ref(ref) == delivery_id


@pytest.mark.parametrize("text", ["", "%%", "a", "b3JkZXJzOjE=", "b3JkZXJzOjF", "/etc", "_w"])
def test_a_text_that_is_no_ref_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        read_ref(text)


def test_a_filter_reads_back_from_the_address_that_it_was_written_to() -> None:
    asked = DeliveryFilter.read(
        [
            ("state", "Dead-Letter"), ("state", "RETRYING"), ("feed", "orders"), ("status", "none"),
            ("attempts", "2-5"), ("since", "2026-11-28T10:00+07:00"), ("until", "2h"),
            ("key", "INV-2026/00060"), ("reason", "=cmd|' /C & \u1ea1"), ("reason_kind", '400 {…} "…"'),
            ("ref", ref_of("orders:a/b")), ("q", "acme:INV-2026/00060"), ("limit", "7"), ("key", ""),
        ]
    )  # fmt: skip
    assert DeliveryFilter.read(parse_qsl(asked.query())) == asked
    assert asked.state == [State.DEAD, State.RETRYING]


def test_a_filter_is_the_selection_that_the_ledger_is_asked() -> None:
    asked = DeliveryFilter.of_ids(["orders:a/b"]).model_copy(
        update={"status": "none", "attempts": "3+", "feed": ["orders", "orders"]}
    )
    assert asked.selection((State.DEAD,)) == Selection(
        (State.DEAD,), ("orders:a/b",), ("orders",), without_status=True, attempts=Between(3)
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("attempts", "5-2"),
        ("status", "99"),
        ("state", "lost"),
        ("since", "soon"),
        ("until", "7196"),
        ("ref", "%%"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_passed_over(name: str, text: str) -> None:
    with pytest.raises(ValidationError):
        DeliveryFilter.read([(name, text)])


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "3650d"]
)
def test_a_moment_beyond_the_calendar_is_its_edge(text: str) -> None:
    assert DeliveryFilter.read([("since", text)]).since


def test_only_a_state_does_not_narrow() -> None:
    assert not DeliveryFilter.read([("state", "dead")]).narrows
    assert DeliveryFilter.read([("state", "dead"), ("reason_kind", "400")]).narrows
