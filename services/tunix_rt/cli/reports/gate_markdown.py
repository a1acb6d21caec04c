"""A gate decision as Markdown that a reviewer reads in a pull request.

Text of models and users is written so that no markup, mention or link is read from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tunix_rt.cli import formats
from tunix_rt.cli.reports.gate_facts import GateFacts, coverage_problem
from tunix_rt.client.resources.evaluations import Evaluation
from tunix_rt.client.resources.scores import ItemComparison, Scorecard

SHOWN_ITEMS = 20
_MARKUP = re.compile(r"[\\`*_\[\]{}()<>#|~@!&$:/]")
_MEANING = {
    "PASS": "the candidate is shown not to be worse by the policy's margin",
    "FAIL": "the candidate is shown to be worse",
    "INCONCLUSIVE": "neither is shown: nothing speaks for a promotion yet",
    "INVALID": "the two evaluations cannot be held against each other",
}


def markdown(facts: GateFacts) -> str:
    """The report."""
    return "\n".join([*_head(facts), *_numbers(facts), *_slices(facts), *_items(facts), *_tail(facts)]) + "\n"


def cell(text: str, limit: int = 0) -> str:
    """``text`` on one line, at most ``limit`` characters (0: all), with everything that Markdown reads as markup
    written as a character reference."""
    text = " ".join(text.split())
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
