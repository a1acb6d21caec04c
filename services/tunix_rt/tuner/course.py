"""A sweep's search, trial by trial: the next suggestion, the results it is based on, and deterministic replay.

Pure. The registry stores with every trial which results the search was given since the previous suggestion
(``observed``). A search that replays the same suggestions and results reaches the same state, so a crash changes no
suggestion.
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
    """A trial to be created. ``observed``: the trials whose results the search was given since the previous suggestion,
    in that order."""

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

    With a ``window`` the order of results is fixed: trial n is suggested when trials 0..n−window have ended, and is
    based on exactly their results. Then the same seed suggests the same trials whatever the timing. Without a window
    a suggestion is based on all results so far. A configuration's result is passed to the search when all its repeats
    have ended.
    """

    def __init__(self, search: Search, configurations: int, repeats: int = 1, window: int | None = None) -> None:
        self._search = search
        self._repeats = repeats
        self._window = window
        self._configurations = configurations
        self._next = 0
        self._parameters: Parameters = {}
        self._outcomes: dict[int, Outcome] = {}
        # Ended, but not yet passed to the search, in the order in which they ended.
        self._waiting: dict[int, None] = {}
        # Outcomes of configurations of which some repeats have not ended.
        self._told: dict[int, list[Outcome]] = {}
        self._n_told = 0

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been suggested."""
        return self._next >= self._configurations * self._repeats

    def extend(self, configurations: int) -> None:
        """Raise the total number of configurations; a smaller number changes nothing."""
        self._configurations = max(self._configurations, configurations)

    def replay(self, stored: Sequence[Stored]) -> None:
        """Replay the stored trials, which are in order of number, from 0.

        Where the search now suggests something else (another release of it), the stored suggestion is kept and the
        search adopts it.
        """
        for trial in stored:
            if trial.outcome is not None:
                self.ended(trial.suggestion.number, trial.outcome)
        for trial in stored:
            suggestion = trial.suggestion
            if suggestion.number != self._next:
                raise ValueError(f"trial {self._next} is missing; the next stored trial is {suggestion.number}")
            self._next += 1
            configuration, repeat = divmod(suggestion.number, self._repeats)
            if repeat:
                continue
            self._tell(suggestion.observed)
            self._parameters = suggestion.parameters
            found = self._search.suggest(configuration)
            if dict(found) != dict(suggestion.parameters):
                _log.warning(
                    "the search suggests other parameters now; the stored ones are kept", trial=suggestion.number
                )
                self._search.adopt(configuration, suggestion.parameters)

    def next(self) -> Suggestion | None:
        """The next trial to be created; None while results must be awaited, and when all have been suggested."""
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
        """Trial ``number`` has ended. To be called once for each trial."""
        if self._search.learns:
            self._waiting[number] = None
            self._outcomes[number] = outcome

    def _due(self, number: int) -> Iterable[int] | None:
        """The trials whose results the search gets before trial ``number``; None if some of them have not ended."""
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
