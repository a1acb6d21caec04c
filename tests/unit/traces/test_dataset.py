"""Dataset versions: digests, filters and what the manifest says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.traces.dataset import BuiltDataset, build_from_recipe, build_from_traces
from tunix_rt.traces.lengths import Bin, histogram, trace_tokens
from tunix_rt.traces.near_duplicates import jaccard, shingles
from tunix_rt.traces.schema import Step, Trace, canonical_line, parse_traces


def build_from_lines(lines: Iterable[str], **settings: Any) -> BuiltDataset:
    return build_from_traces(parse_traces(lines), **settings)


def _line(prompt: str, answer: str = "4", content: str = "so", category: str = "x") -> str:
    return canonical_line(Trace(prompt, answer, (Step(1, "t", content),), meta={"category": category}))


def test_digest_is_that_of_the_canonical_bytes() -> None:
    built = build_from_lines([json.dumps(json.loads(_line("a?")), indent=None), "", _line("b?")], key="mine")
    assert built.jsonl == (_line("a?") + "\n" + _line("b?") + "\n").encode()
    assert built.digest == "sha256:" + hashlib.sha256(built.jsonl).hexdigest()


def test_filters_drop_and_count() -> None:
    lines = [
        _line("a?"),
        _line("a?"),
        _line("a?", content="otherwise"),
        _line("Eval ME!"),
        _line("long?", content="word " * 50),
    ]
    built = build_from_lines(lines, key="k", max_trace_tokens=40, decontaminate={"es-1": ["eval me"]})
    found = built.manifest
    assert [t.prompt for t in built.traces] == ["a?", "a?"]
    assert (found.trace_count, found.dropped_duplicates, found.dropped_contaminated, found.dropped_over_budget) == (
        2,
        1,
        1,
        1,
    )
    assert found.filters == {"max_trace_tokens": 40, "decontaminate_evalset_ids": ["es-1"]}
    assert found.categories == {"x": 2}
    assert [(c.evalset_id, c.exact_prompts) for c in found.contamination] == [("es-1", 0)]


def test_contamination_is_measured_against_every_evalset_given() -> None:
    long_prompt = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    built = build_from_lines([_line("Same?"), _line(long_prompt)], key="k", measure_against={
        "es-b": ["same", "other"], "es-a": ["zero " + long_prompt, "unrelated words"],
    })  # fmt: skip
    assert [(c.evalset_id, c.exact_prompts, c.ngram_items) for c in built.manifest.contamination] == [
        ("es-a", 0, 1),
        ("es-b", 1, 1),
    ]


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(InvalidInput, match="1 exceed the token budget, 1 are in an evalset"):
        build_from_lines([_line("a?"), _line("b " * 50)], key="k", max_trace_tokens=40, decontaminate={"e": ["a"]})
    with pytest.raises(InvalidInput, match="size"):
        build_from_recipe("arith-v1", size=10, max_trace_tokens=3)


def test_token_statistics_equal_numpy() -> None:
    built = build_from_recipe("golden-v2")
    lengths = [trace_tokens(trace) for trace in built.traces]
    found = built.manifest.token_lengths
    assert (found.min, found.max, found.total) == (min(lengths), max(lengths), sum(lengths))
    assert (found.mean, found.p50, found.p95) == pytest.approx(
        (np.mean(lengths), np.percentile(lengths, 50), np.percentile(lengths, 95))
    )
    assert found.tokenizer == "regex-v1"


def test_token_unit_counts_words_digits_and_marks() -> None:
    # What is 27 - 5 ? | < reasoning > so < / reasoning > < answer > 22 < / answer >
    assert trace_tokens(Trace("What is 27 - 5?", "22", (Step(1, "t", "so"),))) == 7 + (3 + 1 + 4 + 3 + 2 + 4)


def test_build_id_follows_parameters_and_budget_is_respected() -> None:
    first = build_from_recipe("arith-v1", size=300, max_trace_tokens=45)
    assert first.manifest.build_id == build_from_recipe("arith-v1", size=300, max_trace_tokens=45).manifest.build_id
    assert first.manifest.build_id != build_from_recipe("arith-v1", size=300).manifest.build_id
    assert len(first.traces) == 300
    assert max(trace_tokens(t) for t in first.traces) <= 45
    assert first.manifest.dropped_over_budget > 0
    assert json.loads(json.dumps(first.manifest.to_dict()))["provenance"] == {
        "recipe": "arith-v1",
        "requested_size": 300,
    }


def test_manifest_describes_every_category() -> None:
    two_steps = Trace("a b?", "4", (Step(1, "t", "so"), Step(2, "t", "then")), meta={"category": "y"})
    built = build_from_lines(
        [_line("a?"), canonical_line(two_steps), _line("c d e?"), _line("f?", category="")], key="k"
    )
    document = built.manifest.to_dict()
    # "<reasoning> so </reasoning> <answer> 4 </answer>" is 16 tokens: tags of 3 and 4, so, 4. A second step adds one.
    assert [(c["category"], c["trace_count"], c["mean_steps"]) for c in document["category_statistics"]] == [
        ("uncategorised", 1, 1.0),
        ("x", 2, 1.0),
        ("y", 1, 2.0),
    ]
    assert document["category_statistics"][1]["token_lengths"] == {
        "tokenizer": "regex-v1", "min": 18, "max": 20, "mean": 19.0, "p50": 19.0, "p95": 19.9, "total": 38,
    }  # fmt: skip
    assert document["category_statistics"][2]["token_lengths"]["total"] == 3 + 17
    assert document["categories"] == {"uncategorised": 1, "x": 2, "y": 1}


def test_manifest_counts_near_duplicates_and_keeps_them() -> None:
    nine = "one two three four five six seven eight nine"
    lines = [_line(nine), _line(nine + " ten"), _line(nine.upper(), content="otherwise"), _line("something else")]
    built = build_from_lines(lines, key="k")
    assert built.manifest.near_duplicates == 2
    assert built.manifest.trace_count == 4


def test_recipes_hold_the_near_duplicates_that_all_pairs_show() -> None:
    """Word problems of arith-v1 that differ in a name alone; golden-v2 has none."""
    assert build_from_recipe("golden-v2").manifest.near_duplicates == 0
    built = build_from_recipe("arith-v1", size=1500)
    sets = [shingles(trace.prompt) for trace in built.traces]
    near = sum(
        any(jaccard(sets[earlier], sets[later]) >= 0.8 for earlier in range(later))
        for later in range(len(sets))
        if len(sets[later]) > 3
    )
    assert built.manifest.near_duplicates == near > 5


def test_histogram_bins_hold_every_length() -> None:
    assert histogram([], 4) == ()
    assert histogram([7], 4) == (Bin(7, 7, 1),)
    # Ten values from 1 to 10 in 4 bins: a width of 3.
    assert histogram(range(1, 11), 4) == (Bin(1, 3, 3), Bin(4, 6, 3), Bin(7, 9, 3), Bin(10, 12, 1))
