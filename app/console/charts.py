"""Charts as shapes that `templates/charts.html` draws: paths without a style, so that the style
sheet colours them, in light and dark alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

Values = Sequence[float | None]

WIDTH, HEIGHT = 640, 180
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 8, 22
_NICE = (1, 2, 2.5, 5, 10)
_GUIDES, _TICKS = 4, 6
_SMALL_WIDTH, _SMALL_HEIGHT = 96, 24
_DOT = "h3"
_LOWEST = 2.0
"""How high a bar of a small chart is at least: a few failures beside many deliveries are seen."""
_BAR = 0.8
"""The part of its place that a bar takes."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line, or the bars of one colour."""

    name: str
    style: str
    """The class that the style sheet knows it by: good, warn, bad, odd, low, middle, high, plain."""
    values: Values
    path: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """A horizontal line, and what it stands for."""

    y: float
    value: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis of time."""

    x: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the figures that it was made of."""

    name: str
    kind: str
    """`line` or `bars`."""
    moments: Sequence[datetime]
    series: Sequence[Series]
    guides: Sequence[Guide]
    ticks: Sequence[Tick]

    @property
    def empty(self) -> bool:
        """There is nothing to draw."""
        return not any(value for one in self.series for value in one.values)


def lines(name: str, moments: Sequence[datetime], series: Sequence[Series]) -> Chart:
    """A line for each series, from 0."""
    top = _nice(max(_present(series), default=0.0))
    y = _linear(top)
    drawn = [_with(one, _line(one.values, y)) for one in series]
    return Chart(name, "line", moments, drawn, _even(top, y), _ticks(moments))


def logarithmic(name: str, moments: Sequence[datetime], series: Sequence[Series]) -> Chart:
    """A line for each series, on a scale of powers of ten; values are above 0."""
    found = _present(series) or [1.0]
    low = math.floor(math.log10(max(min(found), 1.0)))
    high = max(low + 1, math.ceil(math.log10(max(*found, 1.0))))
    space = HEIGHT - TOP - BOTTOM

    def y(value: float) -> float:
        return TOP + space * (1 - (math.log10(max(value, 1.0)) - low) / (high - low))

    drawn = [_with(one, _line(one.values, y)) for one in series]
    guides = [Guide(_short(y(10.0**power)), 10.0**power) for power in range(low, high + 1)]
    return Chart(name, "line", moments, drawn, guides, _ticks(moments))


def stacked(name: str, moments: Sequence[datetime], series: Sequence[Series]) -> Chart:
    """Bars of all series on top of each other."""
    places = zip(*(one.values for one in series), strict=True)
    sums = [sum(value or 0 for value in values) for values in places]
    top = _nice(max(sums, default=0.0))
    y, below = _linear(top), [0.0] * len(moments)
    drawn: list[Series] = []
    for one in series:
        drawn.append(_with(one, _bars(one.values, below, y)))
        below = [base + (value or 0) for base, value in zip(below, one.values, strict=True)]
    return Chart(name, "bars", moments, drawn, _even(top, y), _ticks(moments))


@dataclass(frozen=True, slots=True)
class Small:
    """A chart without words, for a table's cell: bars up for what went well, down for what did not."""

    width: int
    height: int
    good: str
    bad: str


def small(good: Sequence[int], bad: Sequence[int]) -> Small:
    """Bars of two series of the same length, on one scale."""
    most = max([*good, *bad], default=0) or 1
    middle = _SMALL_HEIGHT * 2 / 3 if any(bad) else _SMALL_HEIGHT - 1
    place = _SMALL_WIDTH / max(len(good), 1)

    def bars(values: Sequence[int], room: float) -> str:
        return "".join(
            _bar(place * index, middle, place * _BAR, middle + _seen(room * value / most))
            for index, value in enumerate(values)
            if value
        )

    return Small(_SMALL_WIDTH, _SMALL_HEIGHT, bars(good, -middle), bars(bad, _SMALL_HEIGHT - middle))  # fmt: skip


def _seen(height: float) -> float:
    return math.copysign(max(abs(height), _LOWEST), height)


def _present(series: Sequence[Series]) -> list[float]:
    return [value for one in series for value in one.values if value is not None]


def _with(one: Series, path: str) -> Series:
    return Series(one.name, one.style, one.values, path)


def _nice(most: float) -> float:
    """The next round number, so that guides have short labels."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * step for step in _NICE if power * step >= most * (1 - 1e-9))


def _linear(top: float) -> Callable[[float], float]:
    return lambda value: TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _even(top: float, y: Callable[[float], float]) -> list[Guide]:
    values = (top * part / _GUIDES for part in range(_GUIDES + 1))
    return [Guide(_short(y(value)), value) for value in values]


def _x(index: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / max(count, 1)


def _ticks(moments: Sequence[datetime]) -> list[Tick]:
    step = max(1, math.ceil(len(moments) / _TICKS))
    places = range(step // 2, len(moments), step)
    return [Tick(_short(_x(index, len(moments))), moments[index]) for index in places]


def _line(values: Values, y: Callable[[float], float]) -> str:
    """A line that is broken where a value is missing; one that stands alone is a dot."""
    parts: list[str] = []
    pen = False
    for index, value in enumerate(values):
        if value is None:
            pen = False
            continue
        place = f"{_text(_x(index, len(values)))} {_text(y(value))}"
        alone = not pen and (index + 1 == len(values) or values[index + 1] is None)
        parts.append(f"L{place}" if pen else f"M{place}{_DOT if alone else ''}")
        pen = True
    return "".join(parts)


def _bars(values: Values, below: Sequence[float], y: Callable[[float], float]) -> str:
    width = (WIDTH - LEFT - RIGHT) / max(len(values), 1) * _BAR
    return "".join(
        _bar(_x(index, len(values)) - width / 2, y(base), width, y(base + value))
        for index, (value, base) in enumerate(zip(values, below, strict=True))
        if value
    )


def _bar(x: float, foot: float, width: float, head: float) -> str:
    return f"M{_text(x)} {_text(foot)}h{_text(width)}V{_text(head)}h{_text(-width)}z"


def _short(number: float) -> float:
    return round(number, 1)


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
