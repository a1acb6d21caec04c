"""How long a job may wait for a worker, and run: in whole seconds, 0 is without end."""

from __future__ import annotations

from typing import Final

from tunix_rt.contract.rules import Rule

# Ten years.
_SECONDS: Final = "[0, 315360000]"
DEADLINE: Final = Rule(int, 0, _SECONDS, help="The run fails after running for this time; 0: never.")
QUEUE_DEADLINE: Final = Rule(int, 0, _SECONDS, help="It fails unless a worker claims it within this time; 0: never.")
