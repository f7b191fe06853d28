"""Hours and days leave nothing out and never overlap, whatever the clocks on the wall do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.period import Kind, Period, following, parse_period, period_of, periods, previous

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Moves by half an hour."""
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu",
        "America/Santiago", "Africa/Cairo", "America/Havana", "Atlantic/Azores", "America/Nuuk", "Pacific/Apia",
    )
]  # fmt: skip
"""Some change at midnight, so that a day has no midnight, or two; Apia left out a whole day."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours_of(day: Period, zone: ZoneInfo) -> list[Period]:
    return list(periods(day.start, day.end, Kind.HOUR, zone))


@pytest.mark.parametrize(
    ("day", "hours", "start"),
    [
        ("2026-03-28", 24, "2026-03-27T23:00"),
        ("2026-03-29", 23, "2026-03-28T23:00"),
        ("2026-10-25", 25, "2026-10-24T22:00"),
        ("2026-10-26", 24, "2026-10-25T23:00"),
    ],
)
def test_a_day_is_as_long_as_the_clocks_say(day: str, hours: int, start: str) -> None:
    found = parse_period(day, BERLIN)
    assert (found.start, found.end - found.start) == (utc(start), timedelta(hours=hours))
    assert len(hours_of(found, BERLIN)) == hours


def test_both_hours_of_an_autumn_night_have_names() -> None:
    names = [hour.name for hour in hours_of(parse_period("2026-10-25", BERLIN), BERLIN)]
    assert names[1:5] == [
        "2026-10-25T01+02:00",
        "2026-10-25T02+02:00",
        "2026-10-25T02+01:00",
        "2026-10-25T03+01:00",
    ]
    assert len(set(names)) == 25


def test_the_hour_that_spring_leaves_out_is_no_period() -> None:
    names = [hour.name for hour in hours_of(parse_period("2026-03-29", BERLIN), BERLIN)]
    assert names[1:3] == ["2026-03-29T01+01:00", "2026-03-29T03+02:00"]


def test_the_hours_of_a_half_hour_zone_start_when_its_clocks_say() -> None:
    hour = period_of(utc("2026-01-01T12:10"), Kind.HOUR, KOLKATA)
    assert hour == Period(
        Kind.HOUR, utc("2026-01-01T11:30"), utc("2026-01-01T12:30"), "2026-01-01T17+05:30"
    )
    assert period_of(utc("2026-01-01T18:30"), Kind.DAY, KOLKATA).name == "2026-01-02"


def test_a_zone_that_moves_by_half_an_hour_has_short_hours_that_night() -> None:
    autumn = [
        h
        for h in hours_of(parse_period("2026-04-05", LORD_HOWE), LORD_HOWE)
        if h.name[11:13] in ("01", "02")
    ]
    assert [(h.name[11:], (h.end - h.start) / timedelta(minutes=1)) for h in autumn] == [
        ("01+11:00", 60), ("01+10:30", 30), ("02+10:30", 60),
    ]  # fmt: skip
    spring = [
        h
        for h in hours_of(parse_period("2026-10-04", LORD_HOWE), LORD_HOWE)
        if h.name[11:13] in ("01", "02")
    ]
    assert [(h.name[11:], (h.end - h.start) / timedelta(minutes=1)) for h in spring] == [
        ("01+10:30", 60), ("02+11:00", 30),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Africa/Cairo", "2026-04-24", 23),
        ("America/Havana", "2026-11-01", 25),
        ("America/Nuuk", "2026-03-28", 23),
    ],
)
def test_a_day_without_a_midnight_or_with_two_is_whole(zone: str, day: str, hours: int) -> None:
    found = parse_period(day, ZoneInfo(zone))
    assert (found.name, found.end - found.start) == (day, timedelta(hours=hours))


def test_a_day_that_was_left_out_is_no_period() -> None:
    apia = ZoneInfo("Pacific/Apia")
    with pytest.raises(ValueError, match="no such day in Pacific/Apia"):
        parse_period("2011-12-30", apia)
    assert following(parse_period("2011-12-29", apia), apia).name == "2011-12-31"


@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - naive bounds
    kind=st.sampled_from(Kind),
    zone=st.sampled_from(ZONES),
)
def test_every_moment_is_in_one_period_that_touches_its_neighbours(
    moment: datetime, kind: Kind, zone: ZoneInfo
) -> None:
    period = period_of(moment, kind, zone)
    assert period.start <= moment < period.end
    assert period_of(period.start, kind, zone) == period
    before, after = previous(period, zone), following(period, zone)
    assert (before.end, after.start) == (period.start, period.end)
    assert len({before.name, period.name, after.name}) == 3
    assert parse_period(period.name, zone) == period


@given(
    day=st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - naive bounds
    zone=st.sampled_from(ZONES),
)
def test_a_day_is_the_sum_of_its_hours(day: datetime, zone: ZoneInfo) -> None:
    found = period_of(day, Kind.DAY, zone)
    hours = hours_of(found, zone)
    assert (hours[0].start, hours[-1].end) == (found.start, found.end)
    assert all(one.end == other.start for one, other in pairwise(hours))
    assert len({hour.name for hour in hours}) == len(hours)
    assert {hour.name[:10] for hour in hours} == {found.name}


def test_periods_are_those_that_ended_within() -> None:
    start, end = utc("2026-01-01T10:00"), utc("2026-01-01T13:59")
    names = [period.name for period in periods(start, end, Kind.HOUR, ZoneInfo("UTC"))]
    assert names == ["2026-01-01T10+00:00", "2026-01-01T11+00:00", "2026-01-01T12+00:00"]


def test_words_name_periods_in_the_operators_zone() -> None:
    now = utc("2026-01-01T23:30")
    named = {
        text: parse_period(text, BERLIN, now).name for text in ("today", "yesterday", "last-hour")
    }
    assert named == {
        "today": "2026-01-02",
        "yesterday": "2026-01-01",
        "last-hour": "2026-01-01T23+01:00",
    }


def test_an_hour_may_leave_out_its_offset_where_it_is_the_only_one() -> None:
    assert parse_period("2026-10-25T01", BERLIN).name == "2026-10-25T01+02:00"
    with pytest.raises(ValueError, match=r"2026-10-25T02\+02:00 or 2026-10-25T02\+01:00"):
        parse_period("2026-10-25T02", BERLIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-13-01",
        "2026-2-1",
        "2026-03-29T02",
        "2026-01-01T12+02:00",
        "2026-01-01T",
        "0001-01-01",
    ],
)
def test_what_is_no_period_is_told_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match='a day "2026-11-21"'):
        parse_period(text, BERLIN)
