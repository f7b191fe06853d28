"""What a viewer reads of a partner's answer: its meaning, without what the row holds."""

from __future__ import annotations

import json

import pytest

from app.console.deliveries.masking import masks_personal, masks_row
from app.console.masked import HIDDEN
from app.core.attempts import RESPONSE_LIMIT

ROW = {
    "id": 7,
    "name": "Đặng Thị Ánh",
    "nested": [{"note": 'says "hi" & <b>'}],
    "ok": True,
    "x": "A1",
}
KEY = "acme:INV-2026%2F00060"


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ("no customer Đặng Thị Ánh", f"no customer {HIDDEN}"),
        ("no customer đặng thị ánh!", f"no customer {HIDDEN}!"),
        (json.dumps({"name": ROW["name"]}), f'{{"name": "{HIDDEN}"}}'),
        ('{"note": "says \\"hi\\" & <b>"}', f'{{"note": "{HIDDEN}"}}'),
        ("says &quot;hi&quot; &amp; &lt;b&gt;", HIDDEN),
        (
            "INV-2026/00060 of acme is unknown, A1, true",
            "INV-2026/00060 of acme is unknown, A1, true",
        ),
        ("422 Unprocessable Content", "422 Unprocessable Content"),
        ("mail me@x.example or +84 912 345 678", f"mail {HIDDEN} or {HIDDEN}"),
        ("card 4111-1111-1111-1111", f"card {HIDDEN}"),
        ("at 2026-11-28T10:00:00Z, request 12345", "at 2026-11-28T10:00:00Z, request 12345"),
    ],
)
def test_values_of_the_row_are_masked_and_the_key_and_the_meaning_stay(
    answer: str, seen: str
) -> None:
    assert masks_row(json.dumps(ROW, ensure_ascii=False), KEY)(answer) == seen


def test_a_value_that_was_cut_off_with_the_answer_leaves_nothing_of_it() -> None:
    filler = "x" * (RESPONSE_LIMIT - 10) + " "
    answer = (filler + "confidential clause")[:RESPONSE_LIMIT]
    assert answer.endswith("confident")
    mask = masks_row('{"a": "confidential clause"}', "1")
    assert mask(answer) == filler


@pytest.mark.parametrize("payload", [None, "", "no JSON", "[]", '{"a": null}', '"text"'])
def test_without_a_row_what_looks_personal_goes_all_the_same(payload: str | None) -> None:
    for mask in (masks_row(payload, "k"), masks_personal("k")):
        assert mask("a@b.example said no") == f"{HIDDEN} said no"


def test_a_row_of_ten_thousand_values_is_masked_at_once() -> None:
    """Bounded: what a source puts in must not stand the console still."""
    row = json.dumps({f"c{n}": f"value-{n}" for n in range(10_000)})
    mask = masks_row(row, "k")
    texts = [f"value-{n} {'x' * 2000}" for n in range(50)]
    assert all(mask(text).startswith(HIDDEN) for text in texts)
