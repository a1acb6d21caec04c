"""The course of a sweep's search: which trial comes next, what the search knew then, and how to get there again.

Pure. The registry stores with every trial which results the search was told between the suggestion before and this one
(``observed``). A search that is driven through the same suggestions and results again is in the same state, so no crash
changes what is suggested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunix_rt.observability.logs import get_logger
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.search import Outcome, Parameters, Search, merge, outcome_of
from tunix_rt.tuner.trials import Trial

_log = get_logger(__name__)


@dataclass(frozen=True)
class Suggestion:
    """A trial to be created. ``observed`` are numbers of trials, in the order in which the search was told."""

    number: int
    parameters: Parameters
    observed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stored:
    """A trial that was created. ``outcome`` None: it has not ended."""

    suggestion: Suggestion
    outcome: Outcome | None

    @classmethod
    def of(cls, trial: Trial, plan: Plan) -> Stored:
        """A trial as the registry stores it."""
        return cls(Suggestion(trial.number, trial.parameters, trial.observed), outcome_of(trial, plan))


class Course:
    """Trial number = configuration × ``repeats`` + repeat.

    With a ``window`` the order of results is fixed: trial n is suggested when trials 0..n−window have ended, and knows
    exactly these. Then the same seed suggests the same trials whatever the timing. Without one a suggestion
    knows all results so far. The search learns of a configuration when all its repeats have ended.
    """

    def __init__(self, search: Search, configurations: int, repeats: int = 1, window: int | None = None) -> None:
        self._search = search
        self._repeats = repeats
        self._window = window
        self._configurations = configurations
        self._next = 0
        self._parameters: Parameters = {}
        self._outcomes: dict[int, Outcome] = {}
        # Ended, but not yet told, in the order of their ends.
        self._waiting: dict[int, None] = {}
        # Repeats that were told, of configurations that have others left.
        self._told: dict[int, list[Outcome]] = {}
        self._n_told = 0

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been suggested."""
        return self._next >= self._configurations * self._repeats

    def extend(self, configurations: int) -> None:
        """Ask for so many configurations in all; fewer than before are no change."""
        self._configurations = max(self._configurations, configurations)

    def replay(self, stored: Sequence[Stored]) -> None:
        """Go again through what was suggested, in order of number, from the start.

        A stored suggestion that the search would not make now (another release of it) stands; the search takes it over.
        """
        for trial in stored:
            if trial.outcome is not None:
                self.ended(trial.suggestion.number, trial.outcome)
        for trial in stored:
            suggestion = trial.suggestion
            if suggestion.number != self._next:
                raise ValueError(f"trial {self._next} is missing: {suggestion.number} comes in its place")
            self._next += 1
            configuration, repeat = divmod(suggestion.number, self._repeats)
            if repeat:
                continue
            self._tell(suggestion.observed)
            self._parameters = suggestion.parameters
            found = self._search.suggest(configuration)
            if dict(found) != dict(suggestion.parameters):
                _log.warning("the search suggests something else now; what is stored stands", trial=suggestion.number)
                self._search.adopt(configuration, suggestion.parameters)

    def next(self) -> Suggestion | None:
        """The next trial to be created; None while it has to wait for results, and when all have been suggested."""
        if self.exhausted:
            return None
        number = self._next
        configuration, repeat = divmod(number, self._repeats)
        observed: tuple[int, ...] = ()
        if not repeat:
            due = self._due(number)
            if due is None:
                return None
            observed = tuple(due)
            self._tell(observed)
            self._parameters = dict(self._search.suggest(configuration))
        self._next += 1
        return Suggestion(number, self._parameters, observed)

    def ended(self, number: int, outcome: Outcome) -> None:
        """Trial ``number`` has ended. Once for each."""
        if self._search.learns:
            self._waiting[number] = None
            self._outcomes[number] = outcome

    def _due(self, number: int) -> Iterable[int] | None:
        """What the search is told before trial ``number``; None when part of it is not known yet."""
        if not self._search.learns:
            return ()
        if self._window is None:
            return list(self._waiting)
        due = range(self._n_told, max(self._n_told, number - self._window + 1))
        return due if all(earlier in self._waiting for earlier in due) else None

    def _tell(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            del self._waiting[number]
            self._n_told += 1
            configuration = number // self._repeats
            told = self._told.setdefault(configuration, [])
            told.append(self._outcomes.pop(number))
            if len(told) == self._repeats:
                self._search.tell(configuration, merge(self._told.pop(configuration)))
