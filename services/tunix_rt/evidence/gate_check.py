"""Gate decisions decided again, from the candidate's stored scores and those of the baseline that evidence holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from tunix_rt.errors import TunixError
from tunix_rt.evidence.documents import GATE_DECISIONS, Document
from tunix_rt.evidence.problems import Problems
from tunix_rt.evidence.scoring import plain
from tunix_rt.quality.gate import GateOutcome, GatePolicy, GateSide, SliceRule, SliceTier, decide
from tunix_rt.quality.identity import ScoreIdentity
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.methods import Method, method_of
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.pairing import PairInput
from tunix_rt.quality.scorers import PRIMARY_METRIC


def check_decisions(
    gate: Document, summary: Document, items: Sequence[EvalItem], samples: Sequence[Document], problems: Problems
) -> None:
    """Every decision of ``gate`` against what `quality.gate` decides on the scores in evidence."""
    for index, decision in enumerate(gate["decisions"]):
        path = f"decisions[{index}]"
        policy, baseline = (
            gate["policies"].get(decision["policy_id"]),
            gate["baselines"].get(decision["baseline_evaluation_id"]),
        )
        problems.check(
            decision["candidate_evaluation_id"] == summary["evaluation_id"], GATE_DECISIONS, f"{path} is of another"
        )
        if policy is None or baseline is None:
            problems.add(GATE_DECISIONS, f"{path} lacks its {'policy' if policy is None else 'baseline'}")
            continue
        try:
            rules = _policy(policy)
            # Of a baseline on other questions evidence holds the values alone: the decision is INVALID by its digests.
            same = baseline["identity"]["evalset_digest"] == summary["identity"]["evalset_digest"]
            before = _side(baseline["identity"], items if same else None, baseline["samples"], rules.metric)
            after = _side(summary["identity"], items, samples, rules.metric)
            outcome = decide(rules, before, after, method=_method(decision))
        except (TunixError, KeyError, ValueError, TypeError) as error:
            problems.add(GATE_DECISIONS, f"{path} cannot be decided again: {error}")
            continue
        _hold_against(decision, outcome, path, problems)
        metric = decision["metric"] or PRIMARY_METRIC
        problems.same(GATE_DECISIONS, f"{path}.metric", metric, rules.metric, "its policy")
        for side, identity in (("baseline", baseline["identity"]), ("candidate", summary["identity"])):
            found = decision[f"{side}_model_digest"]
            problems.same(GATE_DECISIONS, f"{path}.{side}_model_digest", found, identity["model_digest"], "its scores")


def _method(decision: Document) -> Method:
    """The statistics that made the decision. Raises ValueError for those of a later release."""
    version = decision.get("statistics", {}).get("statistics_version")
    found = method_of(version)
    if found is None:
        raise ValueError(f"its statistics are of version {version}: verify with its release")
    return found


def _hold_against(decision: Document, outcome: GateOutcome, path: str, problems: Problems) -> None:
    source = "deciding again"
    wanted = {name: value for name, value in plain(_shallow(outcome)).items() if name in decision or value}
    for name in sorted(wanted.keys() | (decision.keys() & {field.name for field in fields(outcome)})):
        if name != "statistics":
            problems.same(GATE_DECISIONS, f"{path}.{name}", decision.get(name), wanted.get(name), source)
    statistics = {} if outcome.statistics is None else plain(asdict(replace(outcome.statistics, slices=(), items=())))
    for name, found in decision.get("statistics", {}).items():
        # A contract's message has zero where a figure was never computed.
        if name in statistics or found:
            problems.same(GATE_DECISIONS, f"{path}.statistics.{name}", found, statistics.get(name), source)
    problems.check(bool(statistics) == ("statistics" in decision), GATE_DECISIONS, f"{path}.statistics is out of place")


def _shallow(outcome: GateOutcome) -> dict[str, Any]:
    return asdict(replace(outcome, statistics=None))


def _policy(document: Mapping[str, Any]) -> GatePolicy:
    """A policy from its message, in which what was not said is empty."""
    return GatePolicy(
        margin=document["margin"],
        alpha=document["alpha"],
        min_coverage=document["min_coverage"],
        min_effect=document["min_effect"],
        metric=document["metric"] or PRIMARY_METRIC,
        higher_is_better=document["direction"] != "LOWER_IS_BETTER",
        slices=tuple(
            SliceRule(rule["dimension"], rule["value"], SliceTier(rule["tier"]), rule.get("min_effect"))
            for rule in document["slices"]
        ),
    )


def _side(
    identity: Mapping[str, str], items: Sequence[EvalItem] | None, samples: Sequence[Document], metric: str
) -> GateSide:
    """An evaluation with every sample's value of ``metric``, and the labels of ``items`` where they are known."""
    score = ScoreIdentity(**identity)
    if items is None:
        return GateSide(score, [PairInput(each["item_id"], _value(each, metric)) for each in samples])
    by_id = {item.id: item for item in items}
    return GateSide(score, [_row(by_id[each["item_id"]], each, metric) for each in samples])


def _row(item: EvalItem, sample: Document, metric: str) -> PairInput:
    value = _value(sample, metric)
    return PairInput(item.id, value, item.section, item.category, item.difficulty, item.cluster_id)


def _value(sample: Document, metric: str) -> float | None:
    return sample["metrics"].get(metric) if sample["outcome"] == Outcome.SCORED else None
