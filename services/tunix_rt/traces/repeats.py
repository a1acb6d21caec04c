"""Repeated traces: identical ones, several for one prompt, and near duplicates. Traces are identified by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.texts import normal_text
from tunix_rt.traces.near_duplicates import earlier_neighbours
from tunix_rt.traces.normalise import normalise_prompt
from tunix_rt.traces.schema import Trace, canonical_line


@dataclass(frozen=True)
class PromptGroup:
    """At least two traces of one prompt. ``answers`` are their distinct final answers, as first written."""

    prompt: str
    positions: tuple[int, ...]
    answers: tuple[str, ...]

    @property
    def conflicting(self) -> bool:
        """Whether the traces disagree on the answer."""
        return len(self.answers) > 1


@dataclass(frozen=True)
class NearGroup:
    """A connected group of near-duplicate prompts, in file order.

    ``similarity`` is the smallest similarity of a member to its earlier neighbour.
    """

    prompt: str
    positions: tuple[int, ...]
    similarity: float


@dataclass(frozen=True)
class Repeats:
    """``identical`` are the positions of traces that are identical to an earlier one.

    ``near_duplicates`` counts the traces whose prompt nearly equals or equals an earlier one's, like a dataset's
    manifest. ``near`` are the groups with more than one distinct prompt.
    """

    identical: tuple[int, ...]
    prompts: tuple[PromptGroup, ...]
    near: tuple[NearGroup, ...]
    near_duplicates: int


def find_repeats(traces: Sequence[Trace]) -> Repeats:
    """The repeats among the traces, in the given order."""
    seen: set[str] = set()
    identical = []
    for position, trace in enumerate(traces):
        line = canonical_line(trace)
        if line in seen:
            identical.append(position)
        seen.add(line)
    near, count = near_groups([trace.asked for trace in traces])
    return Repeats(tuple(identical), _prompt_groups(traces), near, count)


def answer_key(answer: str) -> object:
    """The answer's number, or its normalised text if it is not a number."""
    number = read_number(answer)
    return normal_text(answer) if number is None else number


def distinct_answers(answers: Sequence[str]) -> tuple[str, ...]:
    """The answers with distinct `answer_key`s, each as first written."""
    distinct: dict[object, str] = {}
    for answer in answers:
        distinct.setdefault(answer_key(answer), answer)
    return tuple(distinct.values())


def near_groups(prompts: Sequence[str]) -> tuple[tuple[NearGroup, ...], int]:
    """Groups of near-duplicate prompts that are not all equal, and the number of prompts with an earlier neighbour.

    Each prompt joins the group of its earlier neighbour (`earlier_neighbours`).
    """
    neighbours = earlier_neighbours(prompts)
    root = list(range(len(prompts)))
    similarity = [1.0] * len(prompts)
    members: dict[int, list[int]] = {}
    for position in sorted(neighbours):
        root[position] = root[neighbours[position].position]
        first = root[position]
        similarity[first] = min(similarity[first], neighbours[position].similarity)
        members.setdefault(first, [first]).append(position)
    groups = tuple(
        NearGroup(prompts[first], tuple(positions), similarity[first])
        for first, positions in members.items()
        if len({normalise_prompt(prompts[position]) for position in positions}) > 1
    )
    return groups, len(neighbours)


def _prompt_groups(traces: Sequence[Trace]) -> tuple[PromptGroup, ...]:
    members: dict[str, list[int]] = {}
    for position, trace in enumerate(traces):
        members.setdefault(normalise_prompt(trace.asked), []).append(position)
    return tuple(
        PromptGroup(
            prompt=traces[positions[0]].asked,
            positions=tuple(positions),
            answers=distinct_answers([traces[position].final_answer for position in positions]),
        )
        for positions in members.values()
        if len(positions) > 1
    )
