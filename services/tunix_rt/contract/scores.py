"""What a score and the metrics of a run may be called, and what a verdict is measured against."""

from __future__ import annotations

import re
from typing import Final

from tunix_rt.contract.rules import Rule

METRIC_KEY: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
PRIMARY_SCORE: Final = "primary_score"
HELD_OUT_LOSS: Final = "eval_loss"
DEFAULT_THRESHOLD: Final = 0.5
# Of a verdict: where the confidence interval of the primary score must lie.
THRESHOLD: Final = Rule(float, DEFAULT_THRESHOLD, "[0, 1]", help="Score that a model must reach to pass.")
# Answers that are generated for each item of an evalset.
SAMPLES_PER_ITEM: Final = Rule(int, 1, "[1, 64]", zero_is_default=True, help="Answers generated for each item.")
