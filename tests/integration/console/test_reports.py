"""Reports and certificates: listed a page at a time, read, downloaded, compared; harmless whatever a partner
wrote into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from app.console.deliveries.ref import ref_of
from app.console.security.roles import Role
from app.core.certificates import Certificate, Discrepancy, DiscrepancyKind
from app.core.period import Kind, Period
from app.core.states import State
from app.ledger.reports import ReportKey
from app.reports.record import ALL, Reason, Report, document_of, report_of
from tests.support.console import Consoled
from tests.support.console_ledger import delivery, ledger_commands, put
from tests.support.hostile import SCRIPTS
from tests.support.statements import statements

DAY = datetime(2026, 11, 20, tzinfo=UTC)


async def keep(console: Consoled, *days: int, feed: str = ALL, reason: str = "422") -> None:
    """Reports of these days of November, on as many delivered."""
    for day in days:
        start = DAY.replace(day=day)
        name = start.date().isoformat()
        (made,) = [
            one
            for one in await console.services.operator.reporting.preview(
                Period(Kind.DAY, start, start + timedelta(days=1), name)
            )
            if one.feed == ALL
        ]
        document = document_of(made) | {"feed": feed}
        document["totals"]["delivered"] = day
        document["dead_reasons"] = [{"text": reason, "count": 1, "example": "orders:1"}]
        report = report_of(document)
        assert isinstance(report, Report)
        assert report.dead_reasons == (Reason(reason, 1, "orders:1"),)
        key = ReportKey(feed, Kind.DAY.value, name, start, report.end)
        await console.services.operator.ledger.reports.insert(key, document, [], DAY)


async def test_reports_are_listed_the_latest_first_a_page_at_a_time(console: Consoled) -> None:
    await keep(console, 17, 18, 19, 20)
    await keep(console, 20, feed="orders")
    viewer = await console.logged_in(Role.VIEWER)
    first = (await viewer.get("/api/v1/reports", params={"limit": 3})).json()
    assert [one["delivered"] for one in first["items"]] == [20, 19, 18]
    asked = {"limit": 3, "after": first["next"], "kind": "Days"}
    second = (await viewer.get("/api/v1/reports", params=asked)).json()
    assert ([one["period"] for one in second["items"]], second["next"]) == (["2026-11-17"], None)
    of_feed = (
        await viewer.get("/api/v1/reports", params={"feed": "orders", "period": "2026-11-2"})
    ).json()
    assert [one["period"] for one in of_feed["items"]] == ["2026-11-20"]
    hours = (await viewer.get("/api/v1/reports", params={"kind": "hour"})).json()
    assert hours["items"] == []


async def test_a_report_is_read_and_downloaded_in_every_form(console: Consoled) -> None:
    await keep(console, 20)
    viewer = await console.logged_in(Role.VIEWER)
    address = f"/api/v1/reports/{quote(ALL)}/2026-11-20"
    shown = (await viewer.get(address)).json()
    assert (shown["document"]["totals"]["delivered"], shown["revisions"]) == (20, 0)
    for form, begins in (("html", "<!doctype html>"), ("csv", "feed,span"), ("json", "{")):
        answer = await viewer.get(f"{address}/{form}")
        assert answer.text.lower().startswith(begins)
        assert (
            answer.headers["content-disposition"] == f'attachment; filename="all-2026-11-20.{form}"'
        )
        assert answer.headers["content-security-policy"].startswith("sandbox")
    assert (await viewer.get("/api/v1/reports/orders/2026-11-20")).status_code == 404
    assert (await viewer.get(f"{address}/exe")).status_code == 422


async def test_two_days_are_compared_side_by_side(console: Consoled) -> None:
    await keep(console, 19, 20)
    viewer = await console.logged_in(Role.VIEWER)
    asked = {"left": "2026-11-19", "right": "2026-11-20"}
    compared = (await viewer.get("/api/v1/reports/compare", params=asked)).json()
    (delivered,) = [one for one in compared["counts"] if one["name"] == "delivered"]
    assert delivered == {"name": "delivered", "left": 19, "right": 20, "difference": 1}
    page = (await viewer.get("/reports/compare", params=asked)).text
    assert '<th scope="col">2026-11-19</th><th scope="col">2026-11-20</th>' in page
    missing = await viewer.get("/reports/compare", params=asked | {"left": "2026-11-01"})
    assert (missing.status_code, "no report of 2026-11-01" in missing.text) == (422, True)


@pytest.mark.parametrize("text", SCRIPTS)
async def test_what_a_partner_wrote_is_text_in_a_report(console: Consoled, text: str) -> None:
    await keep(console, 20, reason=text)
    viewer = await console.logged_in(Role.VIEWER)
    for address in ("/reports", "/reports/*/2026-11-20", "/api/v1/reports/*/2026-11-20/html"):
        page = (await viewer.get(address)).text
        for mark in ("<script>document", "<img src=x", "<svg onload", 'href="javascript:'):
            assert mark not in page


async def certify(console: Consoled, at: datetime, **fields: object) -> None:
    made = {
        "states": {State.DELIVERED: 9, State.DEAD: 1},
        "source_rows": 10,
        "position": 10,
    } | fields
    await console.services.operator.ledger.certificates.save(
        Certificate(feed="orders", at=at, **made)  # type: ignore[arg-type] # by name
    )


async def test_a_certificate_leads_to_the_deliveries_of_its_states_ranges_and_differences(
    console: Consoled,
) -> None:
    doubt = Discrepancy(DiscrepancyKind.CHANGED, 1, ("orders:<b>7",))
    await certify(console, DAY)
    await certify(console, DAY + timedelta(days=1), discrepancies=(doubt,))
    await certify(console, DAY + timedelta(days=2), since=5)
    viewer = await console.logged_in(Role.VIEWER)
    proof = (await viewer.get("/api/v1/certificates/orders")).json()
    assert (proof["certificate"]["complete"], proof["certificate"]["states"]["dead"]) == (False, 1)
    page = (await viewer.get("/certificates/orders")).text
    assert f"/deliveries/{ref_of('orders:<b>7')}" in page
    assert "<b>7" not in page
    assert "state=dead" in page
    assert "since=2026-11-20T00%3A00%3A00%2B00%3A00" in page
    history = await viewer.get("/api/v1/certificates/orders/history", params={"limit": 2})
    assert [one["since"] for one in history.json()["items"]] == ["5", None]
    rest = {"limit": 2, "after": history.json()["next"]}
    older = (await viewer.get("/api/v1/certificates/orders/history", params=rest)).json()
    assert (len(older["items"]), older["next"]) == (1, None)
    listed = (await viewer.get("/api/v1/certificates")).json()
    assert [(one["feed"], one["certificate"]["at"][:10]) for one in listed] == [
        ("orders", "2026-11-21")
    ]


async def test_a_feed_without_a_certificate_says_what_comes_next(console: Consoled) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    assert "never reconciled" in (await viewer.get("/certificates/orders")).text
    assert (await viewer.get("/certificates/nobody")).status_code in (404, 502)
    assert (await viewer.get("/api/v1/certificates/nobody")).status_code == 404


async def test_these_pages_ask_as_much_for_many_as_for_one(
    console: Consoled, mongo_database_url: str
) -> None:
    viewer = await console.logged_in(Role.VIEWER)
    addresses = ("/reports", "/reports/*/2026-11-20", "/certificates/orders", "/dead-letters")
    await keep(console, 20)
    await certify(console, DAY)
    await put(console, delivery(0))
    asked: list[list[tuple[int, int]]] = []
    async with ledger_commands(console, mongo_database_url) as commands:
        for more in (False, True):
            if more:
                await keep(console, *range(1, 20))
                for day in range(1, 15):
                    await certify(console, DAY + timedelta(days=day))
                await put(console, *(delivery(n, reason=f"kind {'x' * n}") for n in range(1, 40)))
            asked.append([])
            for address in addresses:
                commands.clear()
                with statements(console.services.store.engine) as sent:
                    assert (await viewer.get(address)).status_code == 200
                asked[-1].append((len(commands), len(sent)))
    assert asked[0] == asked[1]
    assert max(number for pair in asked[1] for number in pair) <= 6
