"""A report's page needs nothing but itself, can be trusted with hostile text, and reads the same
each time.
"""

from __future__ import annotations

import csv
import io
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import orjson
import pytest

from app.core.certificates import Certificate
from app.core.figures import duration, look_at, number, percent
from app.core.period import parse_period
from app.core.states import State
from app.ledger.client import Document
from app.ledger.reasons import TEXT_LIMIT, normal, slug
from app.reports.charts import charts
from app.reports.compile import compile_reports
from app.reports.files import Format, path_of, prune, rendered, write, write_whole
from app.reports.page import page
from app.reports.record import ALL, Report
from app.reports.table import COLUMNS, summary, to_csv
from tests.support.buckets import DAY, day_of, failed, gauge, minute_of

BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = parse_period("2026-11-21", BERLIN)
CERTIFICATE = Certificate(
    "orders",
    PERIOD.end,
    5012,
    5000,
    {State.DELIVERED: 4990, State.DEAD: 7},
    missing=3,
    missing_ids=("orders:12",),
)

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; drop table orders; --",
    "{{ 7 * 7 }} {% raw %}",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt; &amp;",
    "=HYPERLINK(A1)",
    "line one\nline two\r\n\x1b[31mred\x07",
    "\u202egnp.exe",
    "$where.a.b.$c",
    "ü" * 500,
]


def reports(
    buckets: list[Document] | None = None, certificate: Certificate | None = CERTIFICATE
) -> list[Report]:
    documents = day_of("orders", 4000, bad=True) if buckets is None else buckets
    return compile_reports(
        PERIOD, BERLIN, {"orders": documents}, {"orders": certificate}, PERIOD.end
    )


class Seen(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_asks_for_nothing() -> None:
    for report in reports():
        text = page(report)
        seen = Seen(text)
        assert not {tag for tag, _ in seen.tags} & {
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "use",
            "image",
        }
        named = [pair for _, attributes in seen.tags for pair in attributes.items()]
        assert not {
            name
            for name, _ in named
            if name.startswith("on") or name in ("src", "xlink:href", "action")
        }
        assert {value for name, value in named if name == "href"} <= {"#certificate"}
        assert "@import" not in text
        assert "url(" not in text
        found = [word for word in text.replace('"', " ").split() if "://" in word]
        assert set(found) <= {"http://www.w3.org/2000/svg"}, "a namespace is a name, not an address"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reasons_and_ids_stay_text(text: str) -> None:
    document = minute_of(
        "orders", DAY, outcomes={"dead": 1}, failed=failed(text, 1, 1, f"orders:{text}")
    )
    plain = Seen(page(reports([])[1]))
    found = page(reports([document])[1])
    seen = Seen(found)
    assert {tag for tag, _ in seen.tags} <= {tag for tag, _ in plain.tags} | {
        "code",
        "svg",
        "g",
        "path",
        "rect",
        "text",
    }
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert normal(text) in seen.text
    assert "alert(1)</script>" not in found


def test_hostile_statuses_stay_text() -> None:
    document = minute_of(
        "orders", DAY, statuses={"200</text><script>": 3}, outcomes={"delivered": 3}
    )
    text = page(reports([document])[1])
    assert not any(tag == "script" for tag, _ in Seen(text).tags)


def test_a_page_reads_the_same_each_time() -> None:
    assert [page(report) for report in reports()] == [page(report) for report in reports()]


def test_a_page_without_anything_to_tell_is_a_page() -> None:
    for report in reports([], None):
        text = page(report)
        assert "No certificate of completeness" in text
        assert text.count("Nothing to draw.") == 5, "that nothing was logged can be drawn"
        assert "never sampled" in text


def test_the_certificate_is_written_out_in_plain_words() -> None:
    text = " ".join("".join(Seen(page(reports()[1])).text).split())
    assert "orders: not complete. 3 rows of the source are not accounted for." in text
    assert (
        "5,000 rows in the source = 4,990 delivered + 7 dead + 0 skipped + 0 cancelled + 0 open + 3 missing"
        in text
    )
    whole = Certificate("orders", PERIOD.end, 5012, 5000, {State.DELIVERED: 5000})
    text = " ".join("".join(Seen(page(reports(certificate=whole)[1])).text).split())
    assert "orders: complete. Every row of the source is accounted for." in text


def test_the_page_names_a_delivery_to_look_at_for_each_reason() -> None:
    document = minute_of(
        "orders",
        DAY,
        outcomes={"dead": 2},
        failed=failed("422 Unprocessable Content", 2, 2, "orders:a b"),
    )
    text = "".join(Seen(page(reports([document])[1])).text)
    assert "python -m app deliveries show 'orders:a b'" in text


def test_a_revised_report_says_what_changed() -> None:
    revised = {
        "count": 2,
        "at": DAY,
        "changes": [{"field": "totals.dead", "was": 0, "now": "<b>1</b>"}],
    }
    text = page(reports()[1], revised)
    assert "Compiled again 2 times with another result" in text
    assert "&lt;b&gt;1&lt;/b&gt;" in text
    assert orjson.loads(rendered(reports()[1], Format.JSON, revised))["revised"]["count"] == 2


def test_every_drawing_is_well_formed_and_without_a_date() -> None:
    drawn = charts(reports()[1])
    assert [chart.name for chart in drawn] == [
        "throughput",
        "outcomes",
        "delivered",
        "attempts",
        "backlog",
        "statuses",
    ]
    for chart in drawn:
        root = ElementTree.fromstring(chart.svg)  # noqa: S314 - drawn by us
        assert root.get("aria-hidden") == "true"
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "g",
            "path",
            "rect",
            "text",
        }
        assert "pygal.org" not in chart.svg


def test_a_line_has_a_gap_where_nothing_was_delivered() -> None:
    quiet = minute_of("orders", DAY, delivered_ms={"40": 1}, outcomes={"delivered": 1})
    later = [
        minute_of(
            "orders",
            DAY.replace(day=21, hour=hour),
            delivered_ms={"40": 1},
            outcomes={"delivered": 1},
        )
        for hour in (9, 10)
    ]
    (chart,) = [chart for chart in charts(reports([quiet, *later])[1]) if chart.name == "delivered"]
    assert [value is None for value in chart.series[0].values].count(False) == 3


def test_csv_has_a_line_for_the_period_and_each_part() -> None:
    whole, orders = reports()
    for report in (whole, orders):
        lines = list(csv.DictReader(io.StringIO(to_csv(report))))
        assert tuple(lines[0]) == COLUMNS
        assert [line["span"] for line in lines] == ["period"] + ["hour"] * 24 + ["15 minutes"] * 96
        assert {line["feed"] for line in lines} == {report.feed}
        for column in ("delivered", "attempts", "dead", "retries"):
            assert int(lines[0][column]) == sum(int(line[column]) for line in lines[1:25])
        assert all(line["to"] == following["from"] for line, following in pairwise(lines[1:25]))


def test_the_summary_holds_what_a_reader_must_know() -> None:
    text = summary(reports()[0])
    assert "orders: NOT COMPLETE: 5,000 source rows = 4,990 delivered + 7 dead" in text
    assert "503 Service Unavailable" in text
    assert "All feeds: Saturday, 21 November 2026 (Europe/Berlin)" in text


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("503 Service Unavailable", "503 Service Unavailable"),
        ("attempts spent: 500 Internal Server Error", "attempts spent: 500 Internal Server Error"),
        (
            "column 'note': no JSON form: 'Zoë Smith' is bad",
            "column 'note': no JSON form: '…' is bad",
        ),
        ('success check: name is "Zoë", not "ok"', 'success check: name is "…", not "…"'),
        ('answer: {"iban": "DE02120300000000202051"}', "answer: {…}"),
        ("row 123456 of 98765.43 EUR", "row # of # EUR"),
        ("request 5f0c1c1e-8f2b-4e0e-9a57-1f4b8a6d2c11 failed", "request # failed"),
        ("see https://partner.example/?token=s3cret for more", "see <url> for more"),
        ("mailbox zoe.smith@example.org unknown", "mailbox <address> unknown"),
        (
            "the worker's lease ran out over the partner's row",
            "the worker's lease ran out over the partner's row",
        ),
        ("a\nb\x1b\tc", "a b c"),
        ("x" * 290 + " 'Zoë Smith of Ham", "x" * TEXT_LIMIT),
        ("is 'Zoë Smith of Ham", "is '…'"),
        ("Bad status line: b'row of Zoë \\xff' ^", "Bad status line: b'…' ^"),
        ('body {"name": "Zoë', "body {…}"),
        ("", "unknown"),
        ('unfinished "quote with a name', 'unfinished "…"'),
        ("x" * 500, "x" * TEXT_LIMIT),
    ],
)
def test_what_differs_from_row_to_row_is_not_in_a_reason(reason: str, kept: str) -> None:
    assert normal(reason) == kept


def test_a_reasons_name_is_fit_for_a_field() -> None:
    for text in HOSTILE:
        assert slug(text).isalnum()
        assert len(slug(text)) == 13
    assert len({slug(text) for text in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0, "0 %"),
        (1, "100 %"),
        (0.9999, "99.9 %"),
        (0.0001, "0.1 %"),
        (0.825, "82.5 %"),
    ],
)
def test_a_part_is_never_rounded_to_all_or_none(value: float | None, said: str) -> None:
    assert percent(value) == said


def test_figures_are_said_in_words() -> None:
    assert [duration(ms) for ms in (None, 0.4, 12, 1410, 90_000, 9e6, 1.8e8)] == [
        "–", "0.4 ms", "12 ms", "1.41 s", "1.5 min", "2.5 h", "2.08 d",
    ]  # fmt: skip
    assert [number(value) for value in (None, 0, 1440, 0.25)] == ["–", "0", "1,440", "0.25"]
    assert look_at("orders:a'b") == "python -m app deliveries show 'orders:a'\"'\"'b'"


def test_files_have_the_folder_of_their_feed(tmp_path: Path) -> None:
    hour = parse_period("2026-11-21T14", BERLIN)
    assert (
        path_of(tmp_path, "orders", "2026-11-21", Format.JSON)
        == tmp_path / "orders" / "2026-11-21.json"
    )
    assert (
        path_of(tmp_path, ALL, hour.name, Format.HTML)
        == tmp_path / "_all" / "2026-11-21T14+0100.html"
    )


def test_files_are_written_whole_and_removed_again(tmp_path: Path) -> None:
    whole, orders = reports()
    for report in (whole, orders, orders):
        for path in write(tmp_path, report):
            assert path.read_bytes() == rendered(report, Format(path.suffix[1:]))
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == sorted(
        2 * ["2026-11-21.csv", "2026-11-21.html", "2026-11-21.json"]
    ), "and nothing temporary"
    assert prune(tmp_path, "orders", date(2026, 11, 21)) == 0
    assert prune(tmp_path, "orders", date(2026, 11, 22)) == 3
    assert not list((tmp_path / "orders").iterdir())


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_whole(path, b"before")

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_backlog_is_shown_with_when_it_was_seen() -> None:
    document = minute_of("orders", DAY, gauge=gauge(DAY, 12, DAY))
    text = page(reports([document])[1])
    assert "oldest since 2026-11-21 00:00; sampled 2026-11-21 00:00" in text
