"""The charts of a report: inline SVG by pygal, without scripts, styles or colours of its own.

Elements have classes (`guide`, `line`, and the series' own), which the page's style sheet colours,
so that one drawing serves light, dark and paper. pygal's version and date are left out, so that
equal figures give equal drawings.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element

import pygal  # type: ignore[import-untyped] # it has no types; this is the only module that uses it

from app.core.figures import duration, number
from app.core.period import Kind
from app.reports.record import Counts, Interval, Latency, Report

sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
"""pygal hooks into every later import, for maps that are not used here; Python 3.12 ignores that,
Python 3.11 warns.
"""

Values: TypeAlias = Sequence[float | None]

WIDTH, HEIGHT = 640, 220

_LABELS = 8
"""Labels of the time axis, about; bars of the statuses, at most."""
_FEWEST_BARS = 4
"""Fewest places for statuses, so that a single bar does not fill the drawing."""
_CLASSES = {"2": "2xx", "4": "4xx", "5": "5xx"}
_CLASS_STYLES = {"2xx": "good", "4xx": "bad", "5xx": "warn", "no answer or other": "odd"}
_STEPS = (1, 2, 3, 4, 6, 8, 12)
_NICE = (1, 2, 2.5, 5, 10)
_TICKS = 4
_SECOND, _MINUTE, _HOUR, _DAY = 1000.0, 60_000.0, 3_600_000.0, 86_400_000.0
_ROUND_MS = (
    1.0,
    10.0,
    100.0,
    _SECOND,
    10 * _SECOND,
    _MINUTE,
    10 * _MINUTE,
    _HOUR,
    6 * _HOUR,
    _DAY,
    10 * _DAY,
    100 * _DAY,
)
"""Familiar durations, at about even steps on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line, or the bars of one colour."""

    name: str
    style: str
    """The class that the style sheet knows it by: `good`, `warn`, `bad`, `odd`, `low`, `middle`,
    `high`, `plain`.
    """
    values: Values
    fill: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its title and labels."""

    name: str
    title: str
    note: str
    """What it shows, in which unit."""
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    svg: str = ""
    """Empty where there is nothing to draw."""


def charts(report: Report) -> list[Chart]:
    """The charts of a report's page, in order."""
    step = "15 minutes" if report.kind is Kind.DAY else "minute"
    slots, labels = report.slots, tuple(slot.label for slot in report.slots)
    percentiles = "Half, 95 % and 99 % took no longer; the scale is logarithmic"
    outcomes, sampled = (
        f"Attempts a {step}, by what came of them",
        f"Open deliveries, the last sample of each {step}",
    )
    return [
        _linear(
            pygal.Line,
            Chart("throughput", "Throughput", f"Rows a {step}", labels, _throughput(slots)),
        ),
        _linear(
            pygal.StackedBar, Chart("outcomes", "Outcomes", outcomes, labels, _outcomes(slots))
        ),
        _logarithmic(
            Chart(
                "delivered",
                "From logged to delivered",
                percentiles,
                labels,
                _latency(slots, _delivered),
            )
        ),
        _logarithmic(
            Chart("attempts", "One attempt", percentiles, labels, _latency(slots, _attempt))
        ),
        _linear(pygal.Line, Chart("backlog", "Backlog", sampled, labels, _backlog(slots))),
        _statuses(report),
    ]


def _throughput(slots: Sequence[Interval]) -> tuple[Series, ...]:
    logged, delivered = (
        [slot.counts.logged for slot in slots],
        [slot.counts.delivered for slot in slots],
    )
    return Series("logged", "plain", logged), Series("delivered", "good", delivered, fill=True)


def _outcomes(slots: Sequence[Interval]) -> tuple[Series, ...]:
    """Attempts by outcome, without outcomes that never came."""
    kinds: tuple[tuple[str, str, Callable[[Counts], int]], ...] = (
        ("delivered", "good", lambda counts: counts.delivered),
        ("failed, tried again", "warn", lambda counts: counts.retry),
        ("outcome unknown", "odd", lambda counts: counts.unknown),
        ("dead", "bad", lambda counts: counts.dead - counts.unreadable),
    )
    series = [
        Series(name, style, [count(slot.counts) for slot in slots]) for name, style, count in kinds
    ]
    return tuple(item for item in series if any(item.values))


def _delivered(slot: Interval) -> Latency:
    return slot.delivered_ms


def _attempt(slot: Interval) -> Latency:
    return slot.attempt_ms


def _latency(slots: Sequence[Interval], of: Callable[[Interval], Latency]) -> tuple[Series, ...]:
    found = [of(slot) for slot in slots]
    return (
        Series("p50", "low", [latency.p50_ms for latency in found]),
        Series("p95", "middle", [latency.p95_ms for latency in found]),
        Series("p99", "high", [latency.p99_ms for latency in found]),
    )


def _backlog(slots: Sequence[Interval]) -> tuple[Series, ...]:
    return (Series("open", "plain", [slot.open for slot in slots], fill=True),)


def _statuses(report: Report) -> Chart:
    """One bar a status, the most frequent first, in the colour of its class."""
    found = sorted(report.statuses.items(), key=lambda item: (-item[1], item[0]))[:_LABELS]
    labels = [
        f"{'no answer' if status == 'none' else status}: {number(count)}" for status, count in found
    ]
    blanks = [" " * place for place in range(1, _FEWEST_BARS + 1 - len(found))]
    named = [_CLASSES.get(status[0], "no answer or other") for status, _ in found]
    series = tuple(
        Series(name, style, [*_counts_of(name, named, found), *(None for _ in blanks)])
        for name, style in _CLASS_STYLES.items()
        if name in named
    )
    return _linear(
        pygal.StackedBar,
        Chart("statuses", "Statuses", "Attempts by HTTP status", (*labels, *blanks), series),
    )


def _counts_of(
    name: str, named: Sequence[str], found: Sequence[tuple[str, int]]
) -> list[int | None]:
    """The counts of one class of statuses, each in its status's place."""
    return [count if of == name else None for of, (_, count) in zip(named, found, strict=True)]


def _linear(kind: Any, chart: Chart) -> Chart:
    """A chart of numbers, from 0 up."""
    columns = [
        [value or 0 for value in column]
        for column in zip(*(item.values for item in chart.series), strict=True)
    ]
    highest = list(map(sum if kind is pygal.StackedBar else max, columns))
    return _drawn(kind, chart, [(tick, number(tick)) for tick in _linear_ticks(highest)])


def _logarithmic(chart: Chart) -> Chart:
    """A chart of durations in ms. Draws their logarithms on a plain axis: pygal's logarithmic axis
    loses points at gaps.
    """
    series = tuple(
        replace(item, values=[_log(value) for value in item.values]) for item in chart.series
    )
    ticks = _durations(
        [value for item in chart.series for value in item.values if value is not None]
    )
    return _drawn(
        pygal.Line,
        replace(chart, series=series),
        [(math.log10(tick), duration(tick)) for tick in ticks],
    )


def _log(value_ms: float | None) -> float | None:
    return None if value_ms is None else math.log10(max(value_ms, 1))


def _drawn(kind: Any, chart: Chart, ticks: Sequence[tuple[float, str]]) -> Chart:
    """The chart with its SVG; without one where there is nothing to draw."""
    if all(value is None for series in chart.series for value in series.values):
        return chart
    drawing = kind(
        width=WIDTH,
        height=HEIGHT,
        css=[],
        js=[],
        show_legend=False,
        show_dots=False,
        show_minor_x_labels=False,
        truncate_label=-1,
        margin=6,
        spacing=8,
        y_labels=[{"value": value, "label": label} for value, label in ticks],
        range=(ticks[0][0], ticks[-1][0]),
        x_labels=list(chart.labels),
        x_labels_major=list(chart.labels)
        if len(chart.labels) <= _LABELS
        else _sparse(chart.labels),
    )
    drawing.uuid = chart.name
    for series in chart.series:
        drawing.add(
            series.name, list(series.values), fill=series.fill, allow_interruptions=not series.fill
        )
    drawing.add_xml_filter(lambda root: _bare(root, chart))
    return replace(chart, svg=drawing.render(disable_xml_declaration=True, is_unicode=True))


def _bare(root: Element, chart: Chart) -> Element:
    """The drawing without comments, scripts and titles; the series under their own classes."""
    for parent in list(root.iter()):
        for child in list(parent):
            if callable(child.tag) or child.tag in ("defs", "title", "desc", "script", "style"):
                parent.remove(child)
        classes = parent.get("class", "").split()
        for place, series in enumerate(chart.series):
            if f"serie-{place}" in classes:
                parent.set("class", f"series {series.style}")
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    return root


def _sparse(labels: Sequence[str]) -> list[str]:
    """The labels that are shown: whole hours, or whole five minutes, about `_LABELS` of them."""
    whole = [label for label in labels if label[3:5] == "00"]
    if len(whole) < _LABELS // 2:
        whole = [label for label in labels if label[4:5] in ("0", "5")] or list(labels)
    step = next(
        (step for step in _STEPS if len(whole) / step <= _LABELS), math.ceil(len(whole) / _LABELS)
    )
    return whole[::step]


def _linear_ticks(values: Sequence[float]) -> list[float]:
    """From 0 to the greatest value or above it, in round steps of at least 1."""
    most = max([*values, 1])
    rough = most / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(1.0, next(nice * power for nice in _NICE if nice * power >= rough))
    step = math.ceil(step)
    return [float(step * place) for place in range(math.ceil(most / step) + 1)]


def _durations(values_ms: Sequence[float]) -> list[float]:
    """The round durations around the values: those within them, one below and one above."""
    low = max(
        [duration for duration in _ROUND_MS if duration <= min(values_ms, default=1)],
        default=_ROUND_MS[0],
    )
    high = min(
        [duration for duration in _ROUND_MS if duration >= max(values_ms, default=1)],
        default=_ROUND_MS[-1],
    )
    found = [duration for duration in _ROUND_MS if low <= duration <= high]
    return found if len(found) > 1 else [low, low * 10]
