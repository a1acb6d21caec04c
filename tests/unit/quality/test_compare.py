"""Comparison of two evaluations, by hand."""

from __future__ import annotations

import random

import pytest

from tunix_rt.quality.compare import ItemChange, PairInput, compare, lower_bound, pair_up
from tunix_rt.quality.paired import mcnemar_mid_p_two_sided, tango_interval


def _rows(values: list[float | None], **labels: str) -> list[PairInput]:
    return [PairInput(f"i{k:03d}", value, **labels) for k, value in enumerate(values)]


def test_binary_comparison_by_hand() -> None:
    found = compare(_rows([1, 1, 1, 0, 0, 1, None, 0]), _rows([1, 0, 1, 1, 1, 1, 1, None]))
    assert (found.n_paired, found.n_regressions, found.n_fixes, found.n_same, found.n_unpaired) == (6, 1, 2, 3, 2)
    assert found.delta == 1 / 6
    assert (found.ci_low, found.ci_high) == tango_interval(1, 2, 6)
    assert (found.p_value, found.p_method, found.ci_method) == (mcnemar_mid_p_two_sided(1, 2), "mcnemar_mid_p", "tango")
    assert [d.change for d in found.items] == [
        ItemChange.SAME, ItemChange.REGRESSION, ItemChange.SAME, ItemChange.FIX,
        ItemChange.FIX, ItemChange.SAME, ItemChange.UNPAIRED, ItemChange.UNPAIRED,
    ]  # fmt: skip


def test_item_in_one_evaluation_only_is_unpaired() -> None:
    found = compare([PairInput("a", 1.0), PairInput("b", 1.0)], [PairInput("b", 1.0), PairInput("c", 0.0)])
    assert (found.n_paired, found.n_unpaired, found.n_same) == (1, 2, 1)


def test_nothing_in_common_says_nothing() -> None:
    found = compare([], [])
    assert (found.delta, found.ci_low, found.ci_high, found.p_value, found.p_worse, found.n_needed) == (
        0,
        -1,
        1,
        1,
        1,
        0,
    )


def test_graded_comparison_is_seeded_and_free_of_order() -> None:
    source = random.Random(4)
    a = _rows([source.random() for _ in range(30)])
    b = _rows([min(1.0, (row.value or 0) + 0.2 * source.random()) for row in a])
    first = compare(a, b, seed=1)
    assert first.ci_method == "cluster_bootstrap"
    assert first.p_method == "sign_flip"
    assert 0 < first.ci_low < first.delta < first.ci_high < 0.2
    assert first.p_value < 0.001
    assert compare(a[::-1], random.Random(1).sample(b, 30), seed=1) == first


def test_clustered_interval_is_wider_than_if_items_were_independent() -> None:
    a = [PairInput(f"i{k}", 0.0, cluster_id=f"c{k // 10}") for k in range(60)]
    b = [PairInput(f"i{k}", float(k < 30), cluster_id=f"c{k // 10}") for k in range(60)]
    clustered = compare(a, b)
    alone = compare([PairInput(r.item_id, r.value) for r in a], [PairInput(r.item_id, r.value) for r in b])
    assert clustered.ci_method == "cluster_bootstrap"
    assert clustered.ci_high - clustered.ci_low > 2 * (alone.ci_high - alone.ci_low)


def test_no_difference_in_few_clusters_is_not_certainty() -> None:
    rows = [PairInput(f"i{k}", 0.5, cluster_id=f"c{k % 3}") for k in range(300)]
    assert lower_bound(pair_up(rows, rows), 0.05, 0) == pytest.approx(tango_interval(0, 0, 3, 0.9)[0])


def test_slices_are_corrected_together() -> None:
    labels = ["x"] * 10 + ["y"] * 10
    a = [PairInput(f"i{k}", 1.0, category=c) for k, c in enumerate(labels)]
    b = [PairInput(f"i{k}", float(k >= 6), category=c) for k, c in enumerate(labels)]
    found = {s.value: s for s in compare(a, b).slices}
    # six regressions, no fix: 2 · ½ · 2⁻⁶; two slices, so doubled
    assert (found["x"].delta, found["x"].p_value, found["x"].p_adjusted) == (-0.6, 2**-6, 2**-5)
    assert (found["y"].delta, found["y"].p_value, found["y"].p_adjusted) == (0.0, 1.0, 1.0)


def test_samples_are_averaged_per_item() -> None:
    a = [PairInput("a", 1.0), PairInput("a", 0.0)]
    found = compare(a, [PairInput("a", 1.0), PairInput("a", 1.0)])
    assert (found.n_paired, found.delta, found.n_fixes) == (1, 0.5, 1)


def test_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        compare([PairInput("a", 42.0)], [])
