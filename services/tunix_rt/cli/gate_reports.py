"""Reports on a gate decision: JUnit XML for CI servers, Markdown for a reviewer in a pull request.

In Markdown, text of models and users is escaped: no markup, mention or link is read from it. In JUnit XML (as GitLab,
Jenkins and GitHub actions read it):

One test case for the gate, one for the coverage of each evaluation, one for each slice that the policy names:

| what                                   | becomes                                             |
|----------------------------------------|-----------------------------------------------------|
| gate PASS                              | passed                                              |
| gate FAIL                              | failure, type FAIL                                  |
| gate INCONCLUSIVE                      | failure, type INCONCLUSIVE: nothing may be promoted |
| gate INVALID                           | error, type INVALID: the comparison means nothing   |
| coverage under the policy's minimum    | error, type COVERAGE                                |
| critical slice that FAILs              | failure, type SLICE                                 |
| advisory slice that FAILs              | skipped, with the figures: it decides nothing       |
| slice without a pair                   | skipped                                             |

Readers that count failures and errors therefore go red exactly where the exit code is not 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tunix_rt.cli import formats
from tunix_rt.cli.visible import visible
from tunix_rt.contract.enums import SliceTier
from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client import Comparison, Evaluation, GateDecision, Scorecard, TunixClient
    from tunix_rt.client.resources.gates import GatePolicy, SliceDecision
    from tunix_rt.client.resources.scores import ItemComparison

SHOWN_ITEMS = 20
_MARKUP = re.compile(r"[\\`*_\[\]{}()<>#|~@!&$:/]")
_MEANING = {
    "PASS": "the candidate is shown not to be worse by the policy's margin",
    "FAIL": "the candidate is shown to be worse",
    "INCONCLUSIVE": "neither is shown: the evidence does not support a promotion yet",
    "INVALID": "the two evaluations cannot be compared",
}
# What XML 1.0 has no way to write.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class GateFacts:
    """A decision, the policy that it follows and the two evaluations that it is about. ``comparison`` holds the items
    that changed, and is None where the two cannot be compared."""

    decision: GateDecision
    policy: GatePolicy
    baseline: Evaluation
    candidate: Evaluation
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or INVALID."""
        return self.decision.verdict

    @property
    def metric(self) -> str:
        """What was compared."""
        return self.decision.metric or self.policy.metric or "answer_correctness"


def gate_facts(client: TunixClient, decision: GateDecision) -> GateFacts:
    """The facts around a stored decision."""
    try:
        comparison = client.compare(
            decision.baseline_evaluation_id, decision.candidate_evaluation_id, only_changed=True
        )
    except FailedPrecondition:  # other questions, another scorer: INVALID says so
        comparison = None
    return GateFacts(
        decision=decision,
        policy=client.gate.policy(decision.policy_id),
        baseline=client.evaluations.get(decision.baseline_evaluation_id),
        candidate=client.evaluations.get(decision.candidate_evaluation_id),
        comparison=comparison,
    )


def coverage_problem(facts: GateFacts, evaluation: Evaluation) -> str:
    """Why an evaluation's coverage makes the gate INVALID; "" when it does not."""
    card = evaluation.scorecard
    if card is None or card.coverage >= facts.policy.min_coverage:
        return ""
    return (
        f"coverage {card.coverage:.4f} is under the policy's {facts.policy.min_coverage:g}: "
        f"{card.n_errored} errored and {card.n_skipped} skipped of {card.n_items} items"
    )


def slice_name(found: SliceDecision) -> str:
    """``"category sums (critical)"``"""
    tier = found.tier.lower()
    return f"{found.dimension} {found.value} ({tier})"


def slice_numbers(found: SliceDecision) -> str:
    """The figures of a slice in one line."""
    return (
        f"Δ {found.delta:+.4f} on {found.n_paired} items ({found.n_regressions} regressions, {found.n_fixes} fixes), "
        f"p worse {found.p_worse:.4f}, adjusted {found.p_adjusted:.4f}"
    )


def markdown(facts: GateFacts) -> str:
    """The report."""
    return "\n".join([*_head(facts), *_numbers(facts), *_slices(facts), *_items(facts), *_tail(facts)]) + "\n"


def cell(text: str, limit: int = 0) -> str:
    """``text`` on one line, at most ``limit`` characters (0: all), with everything that Markdown reads as markup
    written as a character reference."""
    text = visible(" ".join(text.split()))
    shown = text if not limit or len(text) <= limit else text[: limit - 1] + "…"
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", shown)


def _head(facts: GateFacts) -> Iterator[str]:
    decision = facts.decision
    yield f"## Gate: {facts.verdict}"
    yield ""
    yield f"**{facts.verdict}**: {_MEANING.get(facts.verdict, '')}."
    yield ""
    yield f"> {decision.explanation}"
    yield ""
    if facts.verdict == "INCONCLUSIVE":
        yield from _what_it_needs(facts)
    for role, evaluation in (("baseline", facts.baseline), ("candidate", facts.candidate)):
        if problem := coverage_problem(facts, evaluation):
            yield f"- {role}: {problem}"
            yield ""


def _what_it_needs(facts: GateFacts) -> Iterator[str]:
    decision = facts.decision
    have = decision.statistics.n_paired
    if decision.items_needed:
        yield (
            f"**What it needs:** about **{decision.items_needed} items** ({decision.items_needed - have} more than the "
            f"{have} compared), if the effect is what it looks like here; then the gate decides with 80 % power."
        )
    else:
        yield "**What it needs:** more items that are scored in both evaluations."
    yield "Evaluate both models on a larger evalset, or promote with a waiver and its reason."
    yield ""


def _numbers(facts: GateFacts) -> Iterator[str]:
    decision, stats, policy = facts.decision, facts.decision.statistics, facts.policy
    yield from _table(
        ["", "baseline", "candidate"],
        [
            ("evaluation", f"`{facts.baseline.id}`", f"`{facts.candidate.id}`"),
            ("primary score [95 %]", _score(facts.baseline.scorecard), _score(facts.candidate.scorecard)),
            ("coverage", _coverage(facts.baseline), _coverage(facts.candidate)),
            ("items", _n_items(facts.baseline), _n_items(facts.candidate)),
            ("model", _model(facts.baseline), _model(facts.candidate)),
        ],
    )
    if not stats.n_paired:
        return
    bound = f"{decision.lower_bound:+.4f}" if decision.lower_bound is not None else "–"
    yield from _table(
        [f"`{facts.metric}`, candidate minus baseline", ""],
        [
            ("Δ [95 %]", f"**{formats.signed(stats.delta, stats.ci_low, stats.ci_high)}** ({stats.ci_method})"),
            ("items", f"{stats.n_paired} paired: {stats.n_regressions} regressions, {stats.n_fixes} fixes"),
            (f"one-sided bound of Δ at α = {policy.alpha:g}", f"{bound} (margin {policy.margin:g})"),
            ("p that it is worse", f"{stats.p_worse:.4f} ({stats.p_method}; fails at {policy.alpha:g})"),
        ],
    )


def _slices(facts: GateFacts) -> Iterator[str]:
    if facts.decision.slices:
        yield "### Slices that the policy names"
        yield ""
        yield from _table(
            ["slice", "tier", "verdict", "items", "Δ", "p worse", "p adjusted"],
            [
                (
                    cell(f"{found.dimension} {found.value}"),
                    found.tier.lower(),
                    found.verdict,
                    str(found.n_paired),
                    f"{found.delta:+.3f}",
                    f"{found.p_worse:.4f}",
                    f"{found.p_adjusted:.4f}",
                )
                for found in facts.decision.slices
            ],
        )
    elif facts.comparison is not None and facts.comparison.candidates[0].slices:
        yield "### Slices (for information; the policy names none)"
        yield ""
        yield from _table(
            ["slice", "items", "Δ", "p (Holm)"],
            [
                (
                    cell(f"{found.dimension} {found.value}"),
                    str(found.n_paired),
                    f"{found.delta:+.3f}",
                    f"{found.p_adjusted:.4f}",
                )
                for found in facts.comparison.candidates[0].slices
            ],
        )


def _items(facts: GateFacts) -> Iterator[str]:
    changed = [] if facts.comparison is None else list(facts.comparison.items)
    if not changed:
        return
    yield f"### Items that changed ({len(changed)}, the largest differences first)"
    yield ""
    ordered = sorted(changed, key=lambda item: (-abs(_difference(item)), _difference(item)))
    yield from _table(
        ["item", "change", "score", "expected", "baseline answered (end)", "candidate answered (end)"],
        [
            (
                cell(item.item_id),
                item.candidates[0].change.lower(),
                _scores(item),
                cell(item.expected_answer, 40),
                cell(item.baseline_prediction[-60:], 60),
                cell(item.candidates[0].prediction[-60:], 60),
            )
            for item in ordered[:SHOWN_ITEMS]
        ],
    )
    if len(changed) > SHOWN_ITEMS:
        baseline, candidate = facts.baseline.id, facts.candidate.id
        yield f"… and {len(changed) - SHOWN_ITEMS} more: `tunix-rt compare {baseline} {candidate}`"
        yield ""


def _tail(facts: GateFacts) -> Iterator[str]:
    decision, policy = facts.decision, facts.policy
    yield (
        f"Decision `{decision.id}` (`{decision.digest}`) under policy {cell(policy.name)} v{policy.version}: "
        f"margin {policy.margin:g}, α {policy.alpha:g}, smallest effect {policy.min_effect:g}, "
        f"coverage at least {policy.min_coverage:g}."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _score(card: Scorecard | None) -> str:
    return "–" if card is None else formats.score(card.primary_score, card.ci_low, card.ci_high)


def _coverage(evaluation: Evaluation) -> str:
    return f"{evaluation.scorecard.coverage:.1%}" if evaluation.scorecard else "–"


def _n_items(evaluation: Evaluation) -> str:
    return str(evaluation.scorecard.n_items) if evaluation.scorecard else "–"


def _model(evaluation: Evaluation) -> str:
    return f"`{evaluation.model_id}` `{evaluation.identity.model_digest[:19]}…`"


def _difference(item: ItemComparison) -> float:
    """Candidate minus baseline; 0 for an item that is not scored in both."""
    (candidate,) = item.candidates
    if item.baseline_score is None or candidate.score is None:
        return 0.0
    return candidate.score - item.baseline_score


def _scores(item: ItemComparison) -> str:
    before = f"{item.baseline_score:.3g}" if item.baseline_score is not None else "–"
    (candidate,) = item.candidates
    after = f"{candidate.score:.3g}" if candidate.score is not None else "–"
    return f"{before} → {after}"


def junit(facts: GateFacts) -> bytes:
    """The report, UTF-8 with an XML declaration."""
    suite = ElementTree.Element("testsuite", name="tunix-rt gate")
    _gate_case(suite, facts)
    for role, evaluation in (("baseline", facts.baseline), ("candidate", facts.candidate)):
        case = _case(suite, facts, f"coverage of the {role} {evaluation.id}")
        if problem := coverage_problem(facts, evaluation):
            _outcome(case, "error", "COVERAGE", problem)
    for found in facts.decision.slices:
        _slice_case(suite, facts, found)
    counts = {name: str(len(suite.findall(f"testcase/{tag}"))) for name, tag in _COUNTED.items()}
    counts["tests"] = str(len(suite.findall("testcase")))
    for name, value in {**counts, "time": "0"}.items():
        suite.set(name, value)
    suite.set("timestamp", facts.decision.create_time.strftime("%Y-%m-%dT%H:%M:%S"))
    root = ElementTree.Element("testsuites", {"name": "tunix-rt gate", **counts, "time": "0"})
    root.append(suite)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _gate_case(suite: ElementTree.Element, facts: GateFacts) -> None:
    decision = facts.decision
    case = _case(suite, facts, f"gate: {decision.candidate_evaluation_id} against {decision.baseline_evaluation_id}")
    needed = f"; about {decision.items_needed} items would decide" if decision.items_needed else ""
    told = f"{facts.verdict}: {decision.explanation}"
    if facts.verdict != "PASS":
        tag = "error" if facts.verdict == "INVALID" else "failure"
        text = f"{told}{'' if needed in told else needed}\n{_figures(facts)}"
        _outcome(case, tag, facts.verdict, decision.explanation, text)
    _output(case, f"{told}\n{_figures(facts)}")


def _slice_case(suite: ElementTree.Element, facts: GateFacts, found: SliceDecision) -> None:
    case = _case(suite, facts, f"slice {slice_name(found)}")
    verdict, numbers = found.verdict, slice_numbers(found)
    if verdict == "FAIL" and found.tier is SliceTier.CRITICAL:
        _outcome(case, "failure", "SLICE", numbers)
    elif verdict == "FAIL":
        _outcome(case, "skipped", "ADVISORY", f"worse, but advisory: {numbers}")
    elif verdict == "INCONCLUSIVE":
        _outcome(case, "skipped", "INCONCLUSIVE", "no item of it was scored in both evaluations")
    _output(case, numbers)


def _figures(facts: GateFacts) -> str:
    decision, stats = facts.decision, facts.decision.statistics
    lines = [f"decision {decision.id}, digest {decision.digest}", f"policy {facts.policy.name} v{facts.policy.version}"]
    if stats.n_paired:
        lines.append(
            f"{facts.metric}: Δ {stats.delta:+.4f} [{stats.ci_low:+.4f}, {stats.ci_high:+.4f}] (95 %, "
            f"{stats.ci_method}) on {stats.n_paired} items, {stats.n_regressions} regressions, {stats.n_fixes} fixes, "
            f"p worse {stats.p_worse:.4f}"
        )
    return "\n".join(lines)


def _case(suite: ElementTree.Element, facts: GateFacts, name: str) -> ElementTree.Element:
    attributes = {"classname": f"tunix_rt.gate.{facts.policy.name}", "name": _legal(name), "time": "0"}
    return ElementTree.SubElement(suite, "testcase", attributes)


def _outcome(case: ElementTree.Element, tag: str, kind: str, message: str, text: str = "") -> None:
    ElementTree.SubElement(case, tag, {"type": kind, "message": _legal(message)}).text = _legal(text or message)


def _output(case: ElementTree.Element, text: str) -> None:
    ElementTree.SubElement(case, "system-out").text = _legal(text)


def _legal(text: str) -> str:
    return visible(_ILLEGAL.sub("\ufffd", text))
