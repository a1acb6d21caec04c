"""``python -m tunix_rt.evaluator``"""

from __future__ import annotations

import asyncio
import sys

from tunix_rt.errors import FailedPrecondition
from tunix_rt.evaluator.app import run
from tunix_rt.evaluator.settings import EvaluatorSettings
from tunix_rt.observability.service import start_observability

if __name__ == "__main__":
    settings = EvaluatorSettings()
    stop_metrics = start_observability("evaluator", settings)
    try:
        asyncio.run(run(settings))
    except FailedPrecondition as error:
        sys.exit(f"the evaluator cannot start: {error}")
    finally:
        stop_metrics()
