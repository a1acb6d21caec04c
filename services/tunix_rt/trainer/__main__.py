"""``python -m tunix_rt.trainer``"""

from __future__ import annotations

import asyncio

from tunix_rt.observability.service import start_observability
from tunix_rt.trainer.app import run
from tunix_rt.trainer.settings import TrainerSettings

if __name__ == "__main__":
    settings = TrainerSettings()
    stop_metrics = start_observability("trainer", settings)
    try:
        asyncio.run(run(settings))
    finally:
        stop_metrics()
