"""The killable worker behind answers of type math."""

from __future__ import annotations

import time

import psutil

from tunix_rt.quality.math_equality import MathVerifier


def test_hostile_expression_is_given_up_in_time_and_the_next_one_is_judged() -> None:
    verifier = MathVerifier(timeout_seconds=30)
    try:
        assert verifier.equal("x+x", "2x")
        impatient = MathVerifier(timeout_seconds=1)
        try:
            started = time.monotonic()
            assert not impatient.equal("3", "9^{9^{9^9}}")
            assert time.monotonic() - started < 60
        finally:
            impatient.close()
        assert not verifier.equal("x+x", "3x")
    finally:
        verifier.close()


def test_worker_that_died_is_replaced() -> None:
    verifier = MathVerifier(timeout_seconds=30)
    try:
        assert verifier.equal("x+x", "2x")
        worker = psutil.Process(verifier._worker.pid)
        worker.kill()
        worker.wait(30)
        assert verifier.equal("x+x", "2x")
    finally:
        verifier.close()
