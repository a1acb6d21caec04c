"""The killable worker behind answers of type math."""

from __future__ import annotations

import psutil
import pytest

from tunix_rt.errors import Transient
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.math_equality import MathVerifier
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scoring import score_item


def test_formula_beyond_the_budget_has_no_verdict_and_the_next_one_is_judged() -> None:
    hasty = MathVerifier(max_calls=1_000)
    try:
        with pytest.raises(Transient, match="too many steps"):
            hasty.equal(r"\int_0^1 x^2 dx", r"\frac{1}{3}")
    finally:
        hasty.close()
    verifier = MathVerifier()
    try:
        assert verifier.equal(r"\sum_{k=1}^{3} k", "6")
        assert not verifier.equal(r"\sum_{k=1}^{3} k", "7")
    finally:
        verifier.close()


def test_what_exceeds_the_processor_time_is_errored_and_not_wrong() -> None:
    impatient = MathVerifier(cpu_seconds=0.5, max_calls=10**12)
    try:
        item = EvalItem("q", "p", r"\int_0^1 x^2 dx", answer_type="math")
        slow = r"\sum_{k=1}^{10} \int_0^{k} e^{x^7 + x^k} \sin(x^5)^{k} dx"
        found = score_item(item, f"<answer>{slow}</answer>", math=impatient)
        assert found.outcome is Outcome.ERRORED
        assert "did not decide" in found.message
    finally:
        impatient.close()


def test_verdict_counts_only_where_all_of_the_formula_was_read() -> None:
    verifier = MathVerifier()
    try:
        assert not verifier.equal(r"\sum_{k=1}^{3} k", r"6 \text{ or } 7 @ 2")
    finally:
        verifier.close()


def test_worker_that_died_is_replaced() -> None:
    verifier = MathVerifier()
    try:
        assert verifier.equal("x+x", "2x")
        worker = psutil.Process(verifier._all[0].pid)
        worker.kill()
        worker.wait(30)
        assert verifier.equal("x+x", "2x")
    finally:
        verifier.close()
