"""What the registry says of itself, on a clock that the test turns."""

from __future__ import annotations

from tunix_rt.registry.kernel.vitals import PATIENCE_SECONDS, Vitals


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_database_that_takes_no_writes_is_a_problem_until_it_does() -> None:
    clock = Clock()
    vitals = Vitals(clock)
    clock.now += PATIENCE_SECONDS
    assert vitals.database_problem() == ""
    clock.now += 1
    assert "no write to the database has succeeded for 11 s" in vitals.database_problem()
    vitals.wrote()
    assert vitals.database_problem() == ""


def test_a_bus_is_a_problem_when_it_has_confirmed_nothing_for_a_while() -> None:
    clock = Clock()
    vitals = Vitals(clock)
    clock.now += 1000
    assert vitals.bus_problem() == ""
    vitals.not_published("first")
    clock.now += PATIENCE_SECONDS + 1
    vitals.not_published("no space left")
    assert vitals.bus_problem() == "NATS has confirmed nothing for 11 s: no space left"
    vitals.published()
    assert vitals.bus_problem() == ""
