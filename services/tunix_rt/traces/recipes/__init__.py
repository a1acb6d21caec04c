"""Datasets that ship with Tunix-RT: deterministic generators of traces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.traces.normalise import normalise_prompt
from tunix_rt.traces.recipes import arith, golden
from tunix_rt.traces.schema import Trace

MAX_SIZE = 200_000
# After this many draws without a new trace a generator counts as exhausted.
_STALE_DRAWS = 20_000


@dataclass(frozen=True)
class Recipe:
    """A named generator. ``traces(seed)`` yields the same traces for the same seed; they may repeat."""

    name: str
    description: str
    default_size: int
    default_seed: int
    traces: Callable[[int], Iterator[Trace]]


def _arith_traces(seed: int) -> Iterator[Trace]:
    return (problem.to_trace() for problem in arith.problems(seed) if not arith.is_held_out(problem.prompt))


RECIPES: dict[str, Recipe] = {
    "arith-v1": Recipe(
        "arith-v1",
        "Arithmetic number and word problems with column-wise traces; small enough to learn from scratch on a CPU.",
        6000,
        0,
        _arith_traces,
    ),
    "golden-v2": Recipe(
        "golden-v2",
        "100 worked examples over many domains: the pipeline's unit test, and a first lesson in the answer format.",
        100,
        0,
        golden.traces,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """Traces drawn from a recipe, and the number of rejected ones by reason."""

    traces: tuple[Trace, ...]
    dropped_contaminated: int
    dropped_duplicates: int
    dropped_over_budget: int


def build(
    recipe: str, size: int | None = None, seed: int | None = None, *, exclude_prompts: Collection[str] = ()
) -> list[Trace]:
    """``size`` distinct traces of the recipe, none with a prompt of ``exclude_prompts``; see `draw_traces`."""
    return list(draw_traces(recipe, size, seed, exclude_prompts=exclude_prompts).traces)


def draw_traces(
    recipe: str,
    size: int | None = None,
    seed: int | None = None,
    *,
    exclude_prompts: Collection[str] = (),
    keep: Callable[[Trace], bool] | None = None,
) -> Drawn:
    """Draw ``size`` traces with distinct prompts.

    Prompts that equal one of ``exclude_prompts`` after normalisation, and traces that ``keep`` rejects (the token
    budget), are skipped and counted. A finite recipe (golden-v2) may therefore return fewer; an endless one never does.
    Raises `InvalidInput` for an unknown recipe, or a size that it cannot deliver.
    """
    if recipe not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise InvalidInput([FieldViolation("recipe", f"unknown recipe {recipe!r}; expected one of {known}")])
    chosen = RECIPES[recipe]
    wanted = chosen.default_size if size is None else size
    if not 1 <= wanted <= MAX_SIZE:
        raise InvalidInput([FieldViolation("size", f"must be 1 to {MAX_SIZE}")])
    excluded = {normalise_prompt(prompt) for prompt in exclude_prompts}
    taken: list[Trace] = []
    seen: set[str] = set()
    contaminated = duplicates = over_budget = stale = 0
    for trace in chosen.traces(chosen.default_seed if seed is None else seed):
        if len(taken) == wanted or stale > _STALE_DRAWS:
            break
        key = normalise_prompt(trace.prompt)
        stale += 1
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        if key in excluded:
            contaminated += 1
        elif keep is not None and not keep(trace):
            over_budget += 1
        else:
            taken.append(trace)
            stale = 0
    if len(taken) + contaminated + over_budget < wanted or not taken:
        raise InvalidInput(
            [FieldViolation("size", f"recipe {recipe} has only {len(seen)} distinct prompts; {wanted} were requested")]
        )
    return Drawn(tuple(taken), contaminated, duplicates, over_budget)


def held_out_problems(seed: int, size: int) -> list[arith.Problem]:
    """The first ``size`` distinct held-out problems of `arith-v1`, the source of `evalsets/arith_v1.jsonl`."""
    distinct = {p.prompt: p for p in islice((q for q in arith.problems(seed) if arith.is_held_out(q.prompt)), 4 * size)}
    return list(distinct.values())[:size]
