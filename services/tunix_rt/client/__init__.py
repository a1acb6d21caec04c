"""The Python SDK: ``TunixClient`` and ``AsyncTunixClient``.

    from tunix_rt.client import TunixClient

    with TunixClient() as client:                      # finds the local platform, or TUNIX_RT_* in the environment
        dataset = client.datasets.build("arith-v1")
        run = client.runs.create(base_model="preset://tiny", dataset_id=dataset.id, evaluate_on=["arith_v1"])
        run = client.runs.wait(run.id, on_change=lambda r: print(r.progress.done, "of", r.progress.total))
        print(client.leaderboard("arith_v1"))

Methods take ordinary Python values and return the messages of `tunix_rt.v1`, so that there is one source of truth.
"""

from __future__ import annotations

from tunix_rt.client.clients import AsyncTunixClient, TunixClient
from tunix_rt.client.groups.inference import TextScore
from tunix_rt.client.groups.sweeps import SweepProgress
from tunix_rt.client.jobs import has_ended

__all__ = ["AsyncTunixClient", "SweepProgress", "TextScore", "TunixClient", "has_ended"]
