"""The worker process of `rescoring`: scores predictions with the built-in scorers. It may be killed at any time."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.items import item_from_dict
from tunix_rt.quality.scoring import score_item
from tunix_rt.untrusted.child import connect, serve


class _Undecided(Exception):
    """Two expressions whose equality the parent has to decide first: a child starts no process of its own."""

    def __init__(self, expected: str, answer: str) -> None:
        self.pair = [expected, answer]


class _KnownVerdicts:
    """As `equality.MathJudge`."""

    def __init__(self, verdicts: Sequence[tuple[str, str, bool]]) -> None:
        self._known = {(expected, answer): equal for expected, answer, equal in verdicts}

    def equal(self, expected: str, answer: str) -> bool:
        try:
            return self._known[expected, answer]
        except KeyError:
            raise _Undecided(expected, answer) from None


def score(samples: Sequence[tuple[Any, str, str]], verdicts: Sequence[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """The score of each (item document, prediction, finish reason), or the pair of expressions that it needs a verdict
    on."""
    judge = _KnownVerdicts(verdicts)
    return [_score(*sample, judge) for sample in samples]


def _score(document: Mapping[str, Any], prediction: str, finish_reason: str, judge: _KnownVerdicts) -> dict[str, Any]:
    item = item_from_dict(document, Violations())
    if item is None:  # of a release with other rules for items
        return {"unavailable": True}
    try:
        found = score_item(item, prediction, finish_reason=finish_reason, math=judge)
    except _Undecided as undecided:
        return {"undecided": undecided.pair}
    return {
        "outcome": found.outcome.value,
        "metrics": found.metrics,
        "extracted_answer": found.extracted_answer or "",
        "message": found.message,
    }


if __name__ == "__main__":
    serve(connect(), {"score": score})
    sys.exit(0)
