"""The times of records, which no jump of the system's clock can put in a wrong order."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

# Linux also counts the time for which the machine was suspended; elsewhere, the monotonic clock has to do.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class UtcClock:
    """A clock that reads the system's clock once, and then counts the time since then.

    If the system's clock is set while a run is going on, the times of the run's records still follow each other, and
    their differences are right.
    """

    def __init__(self) -> None:
        self._read_at, self._began_s = datetime.now(UTC), time.clock_gettime(_CLOCK)

    def now(self) -> datetime:
        """Return the current UTC time, as of the system's clock when this clock was made."""
        return self._read_at + timedelta(seconds=time.clock_gettime(_CLOCK) - self._began_s)


_clock = UtcClock()


def utc_now() -> str:
    """Return the current UTC time as an ISO 8601 string with milliseconds, by the clock of this process."""
    return _clock.now().isoformat(timespec="milliseconds")


def moment(text: str) -> datetime | None:
    """Return the time that a text states in ISO 8601, or None if it states no time.

    A time without a time zone, as other tools write it, is taken for UTC.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
