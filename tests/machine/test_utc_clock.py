"""The times of records follow each other although the system's clock jumps."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from attnbench.machine import utc_clock
from attnbench.machine.utc_clock import UtcClock, moment, utc_now

START = datetime(2026, 3, 29, 1, 59, tzinfo=UTC)


class JumpingTime(datetime):
    """A time whose `now` jumps back and forth by a year."""

    jumps = itertools.cycle([timedelta(0), timedelta(days=365), timedelta(days=-365)])

    @classmethod
    def now(cls, zone):
        return START + next(cls.jumps)


def test_times_follow_each_other_although_the_clock_jumps(monkeypatch):
    """The clock reads the system's clock once; later times differ by the seconds that have passed since then."""
    monkeypatch.setattr(utc_clock, "datetime", JumpingTime)
    seconds = iter([100.0, 100.0, 101.5, 3700.0])
    monkeypatch.setattr(utc_clock.time, "clock_gettime", lambda _: next(seconds))
    clock = UtcClock()
    assert [clock.now() - START for _ in range(3)] == [timedelta(seconds=passed) for passed in (0.0, 1.5, 3600.0)]


def test_the_time_now_is_written_in_iso_8601():
    """The time of a record is the UTC time with milliseconds."""
    assert utc_now().endswith("+00:00")
    assert abs(moment(utc_now()) - datetime.now(UTC)) < timedelta(days=1)


@pytest.mark.parametrize("text", ["unknown", "", "yesterday", "2026-13-01T00:00:00"])
def test_a_text_that_is_no_time_is_unknown(text):
    """A text that is not a time in ISO 8601 states no time."""
    assert moment(text) is None


def test_a_time_without_a_time_zone_is_utc():
    """A time without a time zone can be compared with one that has a time zone."""
    assert moment("2026-01-01T00:00:00") == moment("2026-01-01T01:00:00+01:00")
