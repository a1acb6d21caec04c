"""What a sweep has found, as a protobuf message."""

from __future__ import annotations

from tunix_rt.registry.kernel.states import JobState, Reason
from tunix_rt.registry.sweeps.results import ConfigurationResult, SweepResults
from tunix_rt.v1 import sweeps_pb2 as pb


def results_message(sweep: pb.Sweep, results: SweepResults) -> pb.SweepResults:
    """The results as clients see them."""
    return pb.SweepResults(
        sweep=sweep,
        configurations=map(_configuration, results.configurations),
        best_trial_id=results.best_trial_id,
        n_tied=results.n_tied,
        statement=results.statement,
        steps=results.steps,
    )


def _configuration(found: ConfigurationResult) -> pb.Configuration:
    states = [trial.state for trial in found.trials]
    stopped = [trial for trial in found.trials if trial.reason == Reason.EARLY_STOPPED]
    score, difference = found.score, found.difference
    message = pb.Configuration(
        index=found.index,
        trial_ids=[trial.id for trial in found.trials],
        n_succeeded=states.count(JobState.SUCCEEDED),
        n_failed=states.count(JobState.FAILED),
        n_stopped=sum(trial.state == JobState.CANCELLED for trial in stopped),
        objective=score.mean if score else None,
        ci_low=score.low if score else None,
        ci_high=score.high if score else None,
        difference=difference.mean if difference else None,
        difference_low=difference.low if difference else None,
        difference_high=difference.high if difference else None,
        tied_with_best=found.tied,
    )
    message.parameters.update(found.trials[0].parameters)
    return message
