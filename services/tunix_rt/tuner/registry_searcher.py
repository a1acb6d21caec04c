"""A Ray Tune searcher over the registry's trials: which trial Ray follows next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any, Protocol

from ray.tune.search import Searcher

from tunix_rt.tuner.course import Course
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.search import outcome_of
from tunix_rt.tuner.trainable import ended_trial
from tunix_rt.tuner.trials import Trial
from tunix_rt.worker.jobs import Lease


class TrialCreator(Protocol):
    """Creates trials, as `TrialRegistry` does."""

    def create(self, number: int, parameters: Any, observed: tuple[int, ...] = ()) -> Trial: ...


class RegistrySearcher(Searcher):
    """Hands out the trials that are running already, then new ones of the course, at most ``limit`` at once.

    A trial is created at the registry before Ray hears of it. ``on_poll`` is called whenever Ray asks for a trial,
    several times a second: it may extend the course, or raise to end the attempt.
    """

    def __init__(
        self,
        course: Course,
        plan: Plan,
        registry: TrialCreator,
        lease: Lease,
        *,
        running: Iterable[int],
        limit: int,
        on_poll: Callable[[], None],
    ) -> None:
        super().__init__()
        self._course = course
        self._plan = plan
        self._registry = registry
        self._lease = lease
        self._running = deque(running)
        self._limit = limit
        self._on_poll = on_poll
        self._live: dict[str, int] = {}
        self._failure: str | None = None

    def suggest(self, trial_id: str) -> Any:
        """The configuration of Ray's next trial; None: ask again; FINISHED: every trial has ended."""
        self._on_poll()
        if self._failure is not None:
            raise RuntimeError(self._failure)
        if len(self._live) >= self._limit:
            return None
        number = self._next_number()
        if number is not None:
            self._live[trial_id] = number
            # Ray writes configurations to files; who only watches a trial needs no secret.
            lease = asdict(replace(self._lease, secret=""))
            return {"number": number, "lease": lease, "points": self._plan.scheduling is not None}
        # FINISHED only when no trial runs: until then the sweep may be extended.
        return None if self._live else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record the outcome: Ray's last result holds the registry's ended trial."""
        number = self._live.pop(trial_id)
        trial = ended_trial(result or {})
        outcome = outcome_of(trial, self._plan) if trial is not None else None
        if outcome is None:
            self._failure = f"Ray stopped following trial {number} before it ended"
            return
        self._course.ended(number, outcome)

    def attach(self, number: int) -> None:
        """Hand out a trial that the scheduler has created."""
        self._running.append(number)

    def save(self, checkpoint_path: str) -> None:
        """No effect: the state is in the registry."""

    def restore(self, checkpoint_path: str) -> None:
        """No effect: the state is in the registry."""

    def _next_number(self) -> int | None:
        if self._running:
            return self._running.popleft()
        suggestion = self._course.next()
        if suggestion is None:
            return None
        return self._registry.create(suggestion.number, suggestion.parameters, suggestion.observed).number
