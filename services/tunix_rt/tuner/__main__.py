"""``python -m tunix_rt.tuner``"""

from __future__ import annotations

import asyncio

from tunix_rt.observability.service import start_observability
from tunix_rt.tuner.app import run
from tunix_rt.tuner.settings import TunerSettings

if __name__ == "__main__":
    settings = TunerSettings()
    stop_metrics = start_observability("tuner", settings)
    try:
        asyncio.run(run(settings))
    finally:
        stop_metrics()
