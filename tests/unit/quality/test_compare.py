"""Comparison of two evaluations, by hand."""

from __future__ import annotations

import random

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tunix_rt.quality.compare import (
    ItemChange,
    PairInput,
    compare,
    compare_many,
    pair_up,
)
from tunix_rt.quality.paired import (
    detectable_difference,
    detectable_mean,
    mcnemar_mid_p,
    mcnemar_mid_p_two_sided,
    tango_interval,
)
from tunix_rt.quality.statistics_2 import interval, lower_bound


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


def test_graded_comparison_is_free_of_order_and_of_chance() -> None:
    source = random.Random(4)
    a = _rows([source.random() for _ in range(200)])
    b = _rows([min(1.0, (row.value or 0) + 0.2 * source.random()) for row in a])
    first = compare(a, b)
    assert first.ci_method == "bounded_score"
    assert first.p_method == "sign_flip"
    assert 0 < first.ci_low < first.delta < first.ci_high < 0.2
    assert first.p_value < 0.001
    assert compare(a[::-1], random.Random(1).sample(b, 200)) == first


def test_clustered_interval_is_wider_than_if_items_were_independent() -> None:
    a = [PairInput(f"i{k}", 0.0, cluster_id=f"c{k // 10}") for k in range(60)]
    b = [PairInput(f"i{k}", float(k < 30), cluster_id=f"c{k // 10}") for k in range(60)]
    clustered = compare(a, b)
    alone = compare([PairInput(r.item_id, r.value) for r in a], [PairInput(r.item_id, r.value) for r in b])
    assert clustered.ci_method == "cluster_tango"
    assert clustered.ci_high - clustered.ci_low > 2 * (alone.ci_high - alone.ci_low)


def test_the_interval_of_many_graded_differences_is_students() -> None:
    source = random.Random(9)
    a, b = [[source.random() for _ in range(400)] for _ in range(2)]
    peer = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert interval(pair_up(_rows(a), _rows(b)), 0.95) == pytest.approx((peer.low, peer.high), abs=5e-4)


def test_the_interval_of_items_that_do_not_differ_is_tangos() -> None:
    binary = pair_up(_rows([1.0] * 30 + [0.0] * 10), _rows([1.0] * 25 + [0.0] * 13 + [1.0] * 2))
    assert interval(binary, 0.95) == tango_interval(5, 2, 40)
    silent = pair_up(_rows([0.5] * 20), _rows([0.5] * 20))
    assert interval(silent, 0.95) == pytest.approx(tango_interval(0, 0, 20), abs=1e-12)
    assert interval(pair_up([], []), 0.95) == (-1.0, 1.0)
    low, high = interval(pair_up(_rows([0.1, 1.0]), _rows([0.9, 0.0])), 0.95)
    assert -1 <= low < -0.6 < 0.6 < high <= 1


def test_no_difference_in_few_clusters_is_not_certainty() -> None:
    rows = [PairInput(f"i{k}", 0.5, cluster_id=f"c{k % 3}") for k in range(300)]
    # As three items, with t of two degrees of freedom: −t²/(3 + t²).
    squared = stats.t.ppf(0.95, 2) ** 2
    assert lower_bound(pair_up(rows, rows), 0.05) == pytest.approx(-squared / (3 + squared))


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


def test_thousand_shuffles_of_both_sides_give_one_comparison() -> None:
    source = random.Random(6)
    a = [PairInput(f"i{k // 2}", float(source.random() < 0.5), "core", f"c{k // 2 % 3}") for k in range(80)]
    b = [PairInput(f"i{k // 2}", float(source.random() < 0.5), "core", f"c{k // 2 % 3}") for k in range(80)]
    single_a, single_b = a[::2], b[::2]
    first = compare(single_a, single_b)
    for _ in range(1000):
        source.shuffle(single_a)
        source.shuffle(single_b)
        assert compare(single_a, single_b) == first
    graded = compare(a, b)
    for _ in range(3):
        assert compare(source.sample(a, 80), source.sample(b, 80)) == graded


def test_detectable_is_what_the_items_could_show_at_the_discordance_seen() -> None:
    found = compare(_rows([1.0] * 100), _rows([0.0] * 8 + [1.0] * 92))
    assert found.detectable == detectable_difference(100, 0.08)
    graded = compare(_rows([0.5] * 50), _rows([0.25] * 30 + [0.75] * 20))
    assert graded.detectable == pytest.approx(detectable_mean(50, 0.06), abs=1e-12)  # Δ is −0.05
    assert compare([], []).detectable == 1.0
    assert compare(_rows([0.5] * 100), _rows([0.5] * 100)).detectable == detectable_difference(100, 0.0)


def test_items_that_all_differ_alike_do_not_make_everything_detectable() -> None:
    found = compare(_rows([0.3] * 20), _rows([0.4] * 20))
    assert (found.n_needed, found.detectable) == (6, detectable_difference(20, 0.0))


def test_items_needed_are_exact_for_few_discordant_items() -> None:
    # All discordant items being regressions, five of them or more are significant (2 · ½ · 2⁻⁵ = 0.03).
    needed = next(n for n in range(1, 1000) if stats.binom.sf(4, n, 0.05) >= 0.8)
    assert compare(_rows([1.0] * 100), _rows([0.0] * 5 + [1.0] * 95)).n_needed == needed


def test_many_candidates_are_corrected_together() -> None:
    baseline = _rows([1.0] * 20)
    candidates = [_rows([0.0] * r + [1.0] * (20 - r)) for r in (6, 0, 8, 5)]
    found = compare_many(baseline, candidates)
    assert [each.n_regressions for each in found] == [6, 0, 8, 5]
    raw = [compare(baseline, candidate).p_value for candidate in candidates]
    assert [each.p_value for each in found] == raw
    expected = multipletests(raw, method="holm")[1]
    assert [each.p_adjusted for each in found] == pytest.approx(list(expected), abs=1e-12)
    assert compare(baseline, candidates[0]).p_adjusted == raw[0]
    assert compare_many(baseline, []) == ()


def test_lower_is_better_turns_worse_around_but_not_the_difference() -> None:
    low, high = _rows([0.0] * 20, category="x"), _rows([1.0] * 7 + [0.0] * 13, category="x")
    found = compare(low, high, higher_is_better=False)
    assert (found.delta, found.n_regressions, found.n_fixes) == (0.35, 7, 0)
    assert found.p_worse == mcnemar_mid_p(7, 0)
    assert (found.ci_low, found.ci_high) == tango_interval(0, 7, 20)
    assert found.slices[0].delta == 0.35
    worst = found.items[0]
    assert (worst.change, worst.baseline_score, worst.candidate_score) == (ItemChange.REGRESSION, 0.0, 1.0)


def test_differences_of_counts_are_not_kept_in_the_unit_interval() -> None:
    source = random.Random(2)
    before = [source.gauss(300, 40) for _ in range(60)]
    after = [value + source.gauss(25, 30) for value in before]
    found = compare(_rows(list(before)), _rows(list(after)), unit_interval=False)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert found.delta == pytest.approx(sum(after) / 60 - sum(before) / 60)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.ci_method == "student_t"
    assert found.p_value < 0.001
    pairing = pair_up(_rows(list(after)), _rows(list(before)), unit_interval=False)
    assert lower_bound(pairing, 0.025) == pytest.approx(-expected.high, abs=1e-9)


def test_counts_that_do_not_differ_are_known_as_well_as_their_size_allows() -> None:
    rows = _rows([200.0] * 100)
    found = compare(rows, rows, unit_interval=False)
    low, high = tango_interval(0, 0, 100)
    assert (found.ci_low, found.ci_high) == pytest.approx((200 * low, 200 * high), rel=1e-12)
    assert found.detectable == 200 * detectable_difference(100, 0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        compare([PairInput("a", value)], [], unit_interval=False)
