"""Time for leases and deadlines: it goes on evenly whatever is done to the machine's clock.

Several registries on one PostgreSQL begin with its time, so that they agree. A step of PostgreSQL's own clock between
the starts of two registries is not noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session


class LeaseClock:
    """Begins with the machine's time, and then follows its monotonic clock."""

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self.begin(wall())

    def begin(self, now: datetime) -> None:
        """It is ``now``."""
        self._begin, self._zero = now, self._monotonic()

    def now(self) -> datetime:
        """Aware, in UTC; never earlier than before."""
        return self._begin + timedelta(seconds=self._monotonic() - self._zero)


_clock = LeaseClock()


def lease_now() -> datetime:
    """The time of this process for leases and deadlines."""
    return _clock.now()


def begin_with_the_databases_time(session: Session) -> None:
    """Take the time from PostgreSQL; with SQLite the machine has one registry, and its own time will do."""
    if session.get_bind().dialect.name == "postgresql":
        found = session.scalar(select(text("clock_timestamp()")))
        assert isinstance(found, datetime)
        _clock.begin(found.astimezone(UTC))
    else:
        _clock.begin(datetime.now(UTC))
