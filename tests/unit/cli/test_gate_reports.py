"""Reports on gate decisions: slices, and text that means something to XML or Markdown."""

from __future__ import annotations

from xml.etree import ElementTree

from tunix_rt.cli.gate_reports import SHOWN_ITEMS, GateFacts, cell, junit, markdown
from tunix_rt.client import Comparison, Evaluation, GateDecision
from tunix_rt.client.resources.gates import GatePolicy
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import models_pb2

FAIL, PASS, UNDECIDED = (
    models_pb2.GATE_VERDICT_FAIL,
    models_pb2.GATE_VERDICT_PASS,
    models_pb2.GATE_VERDICT_INCONCLUSIVE,
)
CRITICAL, ADVISORY = models_pb2.SLICE_TIER_CRITICAL, models_pb2.SLICE_TIER_ADVISORY


def part(value: str, tier: models_pb2.SliceTier.ValueType, verdict: models_pb2.GateVerdict.ValueType) -> object:
    return models_pb2.SliceDecision(
        dimension="category", value=value, tier=tier, verdict=verdict, n_paired=40, n_regressions=9, n_fixes=1,
        delta=-0.2, p_worse=0.0059, p_adjusted=0.0118,
    )  # fmt: skip


def facts(*changed: pb.ItemComparison, explanation: str = "because") -> GateFacts:
    card = pb.Scorecard(n_items=100, n_scored=100, coverage=1.0, primary_score=0.5, ci_low=0.4, ci_high=0.6)
    decision = models_pb2.GateDecision(
        id="gate-1",
        verdict=FAIL,
        explanation=explanation,
        metric="trace_coherence",
        statistics=pb.PairedStatistics(n_paired=100, delta=-0.2, ci_low=-0.3, ci_high=-0.1, ci_method="tango"),
        slices=[
            part("sums", CRITICAL, FAIL),
            part("words", ADVISORY, FAIL),
            part("empty", CRITICAL, UNDECIDED),
            part("fine", CRITICAL, PASS),
        ],  # type: ignore[list-item]
    )
    policy = models_pb2.GatePolicy(name="strict", version=3, min_coverage=0.98, alpha=0.05, margin=0.02)
    return GateFacts(
        decision=GateDecision(decision),
        policy=GatePolicy(policy),
        baseline=Evaluation(pb.Evaluation(id="eval-0", scorecard=card)),
        candidate=Evaluation(pb.Evaluation(id="eval-1", scorecard=card)),
        comparison=Comparison(
            pb.Comparison(candidates=[pb.CandidateComparison(evaluation_id="eval-1")], items=changed)
        ),
    )


def diff(item_id: str, before: float, after: float, text: str = "x") -> pb.ItemComparison:
    candidate = pb.CandidateItem(change=pb.ITEM_CHANGE_REGRESSION, score=after, prediction=text)
    return pb.ItemComparison(item_id=item_id, baseline_score=before, expected_answer="7", candidates=[candidate])


def test_a_critical_slice_fails_its_case_and_an_advisory_one_is_skipped_with_its_figures() -> None:
    suite = ElementTree.fromstring(junit(facts()))[0]
    cases = {case.attrib["name"]: case for case in suite}
    assert {name: case[0].tag for name, case in cases.items() if name.startswith("slice")} == {
        "slice category sums (critical)": "failure",
        "slice category words (advisory)": "skipped",
        "slice category empty (critical)": "skipped",
        "slice category fine (critical)": "system-out",
    }
    figures = "Δ -0.2000 on 40 items (9 regressions, 1 fixes), p worse 0.0059, adjusted 0.0118"
    assert cases["slice category sums (critical)"][0].attrib == {"type": "SLICE", "message": figures}
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "2",
        "errors": "0",
        "skipped": "2",
    }
    assert all(case.attrib["classname"] == "tunix_rt.gate.strict" for case in suite)


def test_what_xml_cannot_write_is_replaced() -> None:
    root = ElementTree.fromstring(junit(facts(explanation="a\x00b\x1bc\ufffe <&>\"'")))
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "a\ufffdb\ufffdc\ufffd <&>\"'"


def test_the_markdown_names_the_metric_and_every_slice_of_the_policy() -> None:
    text = markdown(facts())
    assert "| `trace_coherence`, candidate minus baseline |" in text
    assert "| category sums | critical | FAIL | 40 | -0.200 | 0.0059 | 0.0118 |" in text
    assert "| category words | advisory | FAIL |" in text
    assert "under policy strict v3: margin 0.02, α 0.05" in text


def test_items_stand_by_the_size_of_their_difference_and_the_rest_is_counted() -> None:
    changed = [diff(f"i{n}", 1.0, n / 100) for n in range(SHOWN_ITEMS + 5)]
    lines = markdown(facts(*reversed(changed))).splitlines()
    shown = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| i") and "→" in line]
    assert shown == [f"i{n}" for n in range(SHOWN_ITEMS)]
    assert "… and 5 more: `tunix-rt compare eval-0 eval-1`" in lines


def test_markup_of_models_is_text() -> None:
    assert cell("a | b\n<b>`x`</b> @you") == ("a &#124; b &#60;b&#62;&#96;x&#96;&#60;&#47;b&#62; &#64;you")
    assert cell("x" * 50, 10) == "x" * 9 + "…"
    row = next(line for line in markdown(facts(diff("i", 1, 0, "| <img src=x> |"))).splitlines() if "| i |" in line)
    assert row.count("|") == 7
    assert "<" not in row
