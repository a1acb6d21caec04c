"""Which checkpoints of a run stay when it has succeeded."""

from __future__ import annotations

from typing import Final

from tunix_rt.contract.rules import Rule

LAST: Final = "last"
BEST: Final = "best"
NONE: Final = "none"
ALL: Final = "all"

RETENTION: Final = Rule(
    str,
    default=LAST,
    choices=(LAST, BEST, NONE, ALL),
    help="What stays of the checkpoints when the run has succeeded: last, best (lowest held-out loss), none or all.",
)
