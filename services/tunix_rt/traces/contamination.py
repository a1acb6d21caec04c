"""Overlap of a dataset with evalsets: equal prompts, near duplicates, shared n-grams, and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunix_rt.quality.equality import answers_equal
from tunix_rt.quality.items import EvalItem
from tunix_rt.traces.near_duplicates import matches
from tunix_rt.traces.normalise import ngrams, normalise_prompt, prompt_words, word_ngrams
from tunix_rt.traces.schema import Trace

NGRAM_SIZE = 13  # Brown et al. 2020 (GPT-3), appendix C

Prompts = Mapping[str, Sequence[str]]
"""Prompts of each evalset, by evalset id."""


@dataclass(frozen=True)
class Contamination:
    """Overlap with one evalset: items whose prompt is in the dataset, and items that share an n-gram with it."""

    evalset_id: str
    exact_prompts: int
    ngram_items: int
    ngram_size: int


class Kind(StrEnum):
    """The kind of overlap between a trace's prompt and an item's, strongest first."""

    EXACT = "exact"
    NEAR = "near"
    NGRAM = "ngram"


@dataclass(frozen=True)
class Overlap:
    """A trace and the item it overlaps with most. ``similarity`` is of 5-grams; None if only an n-gram is shared.

    ``same_answer``: the trace's final answer is correct for the item, so training on it leaks the answer.
    """

    trace: int
    item_id: str
    kind: Kind
    similarity: float | None
    same_answer: bool


@dataclass(frozen=True)
class Leaks:
    """The overlap with one evalset, by item and by trace.

    An exact item is also a near one, and both are n-gram items if long enough. ``answered_items``: exact or near items
    whose answer a trace leaks. ``overlaps`` has one entry per overlapping trace, strongest kinds first.
    """

    evalset: str
    item_count: int
    exact_items: int
    near_items: int
    ngram_items: int
    answered_items: int
    overlaps: tuple[Overlap, ...]


def measure_contamination(traces: Sequence[Trace], evalsets: Prompts) -> tuple[Contamination, ...]:
    """Counts of the overlap with each evalset, ordered by evalset id."""
    items = {evalset_id: [prompt_words(prompt) for prompt in prompts] for evalset_id, prompts in evalsets.items()}
    asked = {" ".join(words) for each in items.values() for words in each}
    asked_runs = {run for each in items.values() for words in each for run in word_ngrams(words, NGRAM_SIZE)}
    exact, runs = set(), set()
    for question in (question for trace in traces for question in trace.questions) if asked else ():
        words = prompt_words(question)
        if (text := " ".join(words)) in asked:
            exact.add(text)
        runs |= asked_runs & word_ngrams(words, NGRAM_SIZE)
    return tuple(
        Contamination(
            evalset_id=evalset_id,
            exact_prompts=sum(" ".join(words) in exact for words in of_evalset),
            ngram_items=sum(not runs.isdisjoint(word_ngrams(words, NGRAM_SIZE)) for words in of_evalset),
            ngram_size=NGRAM_SIZE,
        )
        for evalset_id, of_evalset in sorted(items.items())
    )


def find_leaks(traces: Sequence[Trace], evalsets: Mapping[str, Sequence[EvalItem]]) -> tuple[Leaks, ...]:
    """Which traces overlap with which items of each evalset, in the given order; keys are display names."""
    # All evalsets in one pass: sketching the traces dominates the cost.
    owners = [(name, position) for name, items in evalsets.items() for position in range(len(items))]
    similar: dict[str, _Similar] = {name: {} for name in evalsets}
    prompts = [item.prompt for items in evalsets.values() for item in items]
    questions = [(trace, question) for trace, each in enumerate(traces) for question in each.questions]
    for match in matches([question for _, question in questions], prompts) if prompts else ():
        name, position = owners[match.query]
        similar[name].setdefault(questions[match.position][0], []).append((match.similarity, position))
    return tuple(_leaks(name, _Search(traces, items, similar[name])) for name, items in evalsets.items())


_Similar = dict[int, list[tuple[float, int]]]
"""By position of a trace, the near items with their similarity."""


def _leaks(evalset: str, search: _Search) -> Leaks:
    found = (search.strongest(position) for position in range(len(search.traces)))
    overlaps = [overlap for overlap in found if overlap is not None]
    order = list(Kind)
    return Leaks(
        evalset=evalset,
        item_count=len(search.items),
        exact_items=len(search.exact),
        near_items=len(search.near),
        ngram_items=len(search.sharing),
        answered_items=len(search.answered),
        overlaps=tuple(sorted(overlaps, key=lambda overlap: (order.index(overlap.kind), overlap.trace))),
    )


class _Search:
    """Looks up traces one by one and collects the positions of the items found."""

    def __init__(self, traces: Sequence[Trace], items: Sequence[EvalItem], similar: _Similar) -> None:
        self.traces = traces
        self.items = items
        self.exact: set[int] = set()
        self.near: set[int] = set()
        self.sharing: set[int] = set()
        self.answered: set[int] = set()
        self._similar = similar
        self._by_prompt: dict[str, list[int]] = {}
        self._by_run: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            self._by_prompt.setdefault(normalise_prompt(item.prompt), []).append(position)
            for run in ngrams(item.prompt, NGRAM_SIZE):
                self._by_run.setdefault(run, []).append(position)

    def strongest(self, position: int) -> Overlap | None:
        """The trace's strongest overlap; counts every item that it overlaps with."""
        trace = self.traces[position]
        exact = [item for question in trace.questions for item in self._by_prompt.get(normalise_prompt(question), [])]
        similar = self._similar.get(position, [])
        runs = {run for question in trace.questions for run in ngrams(question, NGRAM_SIZE)}
        sharing = {item for run in runs if run in self._by_run for item in self._by_run[run]}
        self.exact.update(exact)
        self.near.update(item for _, item in similar)
        self.sharing |= sharing
        self.answered.update(item for _, item in similar if item not in self.answered and self._gives(trace, item))
        if exact:
            return self._overlap(position, exact[0], Kind.EXACT, 1.0)
        if similar:
            similarity, item = max(similar, key=lambda pair: (pair[0], -pair[1]))
            return self._overlap(position, item, Kind.NEAR, similarity)
        return self._overlap(position, min(sharing), Kind.NGRAM, None) if sharing else None

    def _overlap(self, position: int, item: int, kind: Kind, similarity: float | None) -> Overlap:
        gives = self._gives(self.traces[position], item)
        return Overlap(position, self.items[item].id, kind, similarity, gives)

    def _gives(self, trace: Trace, position: int) -> bool:
        item = self.items[position]
        return answers_equal(item.rule, item.references, trace.final_answer, _SameText())


class _SameText:
    """Without `math-verify`: expressions that are not equal as text or numbers count as different."""

    def equal(self, expected: str, answer: str) -> bool:
        return False
