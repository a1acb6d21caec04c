"""What an evalset can show, and what is in it twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from tunix_rt.cli.views.evalset_quality import in_words
from tunix_rt.quality.items import EvalItem, evalset_of, parse_evalset
from tunix_rt.quality.resolution import Detectable, detectable, independent_items
from tunix_rt.traces.evalset_report import EvalSetReport, SimilarItems, evalset_report

FOLDER = Path(__file__).parents[3] / "evalsets"
NINE = "one two three four five six seven eight nine"


def _item(name: str, prompt: str, answer: str = "4", **fields: Any) -> EvalItem:
    return EvalItem(id=name, prompt=prompt, expected_answer=answer, **fields)


def _codes(report: EvalSetReport) -> dict[str, int]:
    return {finding.code: finding.count for finding in report.findings()}


def test_a_cluster_counts_as_one_item() -> None:
    assert independent_items(["", "", "a", "a", "b", "a"]) == 4
    report = evalset_report(evalset_of([_item(str(n), f"q{n}", cluster_id=f"text-{n // 10}") for n in range(250)]))
    assert report.independent == 25
    assert report.detectable == detectable(25)


def _power(n: int, discordance: float, difference: float) -> float:
    """Of the two-sided mid-p McNemar test, summed over every possible number of differing items."""
    up = 0.5 * (1 + difference / discordance)
    total = 0.0
    for m in range(1, n + 1):
        weight = binom.pmf(m, n, discordance)
        for fixes in range(m + 1):
            high = max(fixes, m - fixes)
            mid_p = 1.0 if 2 * fixes == m else 2 * (binom.sf(high, m, 0.5) + 0.5 * binom.pmf(high, m, 0.5))
            if mid_p <= 0.05:
                total += weight * binom.pmf(fixes, m, up)
    return total


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_comparison_on_100_items_shows_the_stated_difference_with_80_percent_power(share: float) -> None:
    found = {each.discordance: each.difference for each in detectable(100)}
    assert found[share] <= share
    assert _power(100, share, found[share]) == pytest.approx(0.80, abs=0.005)


def test_too_few_differing_items_show_nothing() -> None:
    five = detectable(100)[0]
    assert five.discordance == 0.05
    assert _power(100, 0.05, 0.05) < 0.8 < _power(100, 0.07, 0.07)
    assert 0.05 < five.difference < 0.07
    assert in_words(Detectable(0.05, 0.066)) == (
        "nothing, even if one model is better on all of them; that takes 6.6% of the items"
    )
    assert in_words(Detectable(0.10, 0.0824)) == "differences of 0.082 or more"


def test_items_that_repeat_or_resemble_an_earlier_one_are_named() -> None:
    report = evalset_report(
        evalset_of(
            [
                _item("a", NINE, cluster_id="count"),
                _item("b", NINE + " ten", cluster_id="count"),
                _item("c", NINE.upper() + "!", "5"),
                _item("d", "Something else?", "4.0"),
                _item("e", "something else", "4"),
                _item("f", "zero " + NINE, "7"),
            ]
        )
    )
    assert report.similar == (
        SimilarItems("b", "a", 5 / 6, equal=False, same_answer=True, same_cluster=True),
        SimilarItems("c", "a", 1.0, equal=True, same_answer=False, same_cluster=False),
        SimilarItems("e", "d", 1.0, equal=True, same_answer=True, same_cluster=False),
        SimilarItems("f", "a", 5 / 6, equal=False, same_answer=False, same_cluster=False),
    )
    assert _codes(report) == {"contradicting": 1, "equal_prompts": 2, "near_duplicates": 1}
    assert (report.common_answer.answer, report.common_answer.items) == ("4", 4)


@pytest.mark.parametrize(("name", "answer", "items"), [("arith_v1", "4", 8), ("eval_v1", "25", 2)])
def test_shipped_evalsets_are_clean(name: str, answer: str, items: int) -> None:
    report = evalset_report(parse_evalset((FOLDER / f"{name}.jsonl").read_bytes()))
    assert report.findings() == []
    assert (report.common_answer.answer, report.common_answer.items) == (answer, items)
