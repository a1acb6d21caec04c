"""What Ray Tune runs for each trial: it trains nothing, it waits for the registry's trial and reports it."""

from __future__ import annotations

from typing import Any

from ray import tune

from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.trials import Lease, TrialRegistry

OBJECTIVE = "objective"


class TrialWithoutObjective(Exception):
    """The trial failed or was cancelled: Ray counts it as failed. It is never reported as a score of 0."""


def carry_out_trial(config: dict[str, Any]) -> None:
    """Carry out ``config["trial"]`` (number, parameters, lease) and report its stored objective.

    The registry's address and token come from the environment, so that neither is written into Ray's files.
    """
    trial = config["trial"]
    settings = TunerSettings()
    with open_sync_channel(settings.registry_address, token=settings.token_text, tls=settings.tls) as channel:
        registry = TrialRegistry(channel, Lease(**trial["lease"]))
        ended = registry.carry_out(trial["number"], trial["parameters"])
    if ended.state != "SUCCEEDED" or ended.objective is None:
        raise TrialWithoutObjective(f"trial {ended.number} is {ended.state}: {ended.message}")
    tune.report({OBJECTIVE: ended.objective})
