"""Exports: streamed, harmless to a spreadsheet, without payloads but for an operator with a reason, and
never cut off in silence."""

from __future__ import annotations

import csv
import io
from typing import Any

import orjson
import pytest

from app.console.security.roles import Role
from app.core.errors import LedgerUnavailable
from app.core.states import State
from app.ledger.listing import Listing
from tests.integration.console.test_deliveries import audited
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, put
from tests.support.hostile import FORMULAS, SCRIPTS

ADDRESS = "/api/v1/deliveries/export"
WHY = {"why": "the partner asks for them"}


async def test_an_export_has_all_that_was_searched_for_in_csv_and_ndjson(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.deliveries.exporting.AT_ONCE", 7)
    monkeypatch.setattr("app.reads.search.LOOKED_AT", 5)
    await put(
        console,
        *(delivery(number, age=number // 3) for number in range(40)),
        delivery("other", state=State.DELIVERED),
    )
    viewer = await console.logged_in(Role.VIEWER)
    for asked in ({"state": "dead"}, {"reason": "unprocessable"}):
        text = (await viewer.get(ADDRESS, params=asked)).text
        rows = [*csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))]
        assert sorted(int(row["key"]) for row in rows) == [*range(40)]
        lines = (await viewer.get(ADDRESS, params=asked | {"format": "ndjson"})).text.splitlines()
        assert sorted(int(orjson.loads(line)["key"]) for line in lines) == [*range(40)]
        assert "Nguyen" not in text


@pytest.mark.parametrize("field", ["key", "reason"])
async def test_no_cell_is_a_formula_whatever_a_source_or_partner_writes(
    console: Consoled, field: str
) -> None:
    texts = [*FORMULAS, *SCRIPTS, "  =1+1", "plain", "5"]
    made = [
        delivery(text if field == "key" else number, age=number) | {"reason": text}
        for number, text in enumerate(texts)
    ]
    await put(console, *made)
    answer = await (await console.logged_in(Role.OPERATOR)).get(ADDRESS)
    assert answer.headers["content-disposition"] == 'attachment; filename="deliveries.csv"'
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = [*csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"), newline=""))]
    assert len(rows) == len(texts) + 1
    for row in rows:
        for cell in row:
            assert not cell.lstrip().startswith(tuple("=+-@＝"))
            assert not cell.startswith(("\t", "\r", "\n"))


async def test_payloads_leave_only_for_an_operator_who_says_why_and_on_record(
    console: Consoled,
) -> None:
    await put(console, delivery(1), delivery(2))
    viewer, operator = await console.logged_in(Role.VIEWER), await console.logged_in(Role.OPERATOR)
    asked = {"filter": {"state": ["dead"]}, "format": "ndjson"}
    assert (await viewer.post(ADDRESS, json=asked | WHY)).status_code == 403
    assert (await operator.post(ADDRESS, json=asked)).status_code == 422
    given = await operator.post(ADDRESS, json=asked | WHY)
    assert [orjson.loads(line)["payload"][:5] for line in given.text.splitlines()] == ['{"id"'] * 2
    page = await operator.post("/deliveries/export?state=dead", data=WHY)
    assert page.text == given.text
    assert await audited(console, "deliveries.") == [
        ("deliveries.export.refused", WHY["why"]),
        ("deliveries.exported", WHY["why"]),
        ("deliveries.exported", WHY["why"]),
    ]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_an_export_whose_ledger_goes_away_ends_with_what_happened(
    console: Consoled, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("app.console.deliveries.exporting.AT_ONCE", 2)
    await put(console, *(delivery(number, age=number) for number in range(6)))
    real, asked = Listing.page, 0

    async def goes_away(self: Listing, *args: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise LedgerUnavailable("ledger: no primary")
        return await real(self, *args, **more)

    monkeypatch.setattr(Listing, "page", goes_away)
    answer = await (await console.logged_in(Role.VIEWER)).get(ADDRESS, params={"format": form})
    lines = answer.text.splitlines()
    assert len(lines) == 4 + (2 if form == "csv" else 1)
    assert "is not complete: ledger: no primary" in lines[-1]


async def test_an_export_is_bounded_and_says_so(
    console: Consoled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.console.deliveries.exporting.MOST", 3)
    await put(console, *(delivery(number) for number in range(5)))
    viewer = await console.logged_in(Role.VIEWER)
    lines = (await viewer.get(ADDRESS, params={"format": "ndjson"})).text.splitlines()
    assert len(lines) == 4
    assert "narrow the search" in orjson.loads(lines[-1])["error"]


async def test_a_feed_that_nobody_knows_is_refused_before_anything_is_sent(
    console: Consoled,
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    refused = await viewer.get(ADDRESS, params={"feed": "nobody"})
    assert (refused.status_code, refused.headers["content-type"]) == (
        404,
        "application/problem+json",
    )
