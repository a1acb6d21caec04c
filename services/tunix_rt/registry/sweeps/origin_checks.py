"""What a trial of a population must satisfy that goes on where another one was."""

from __future__ import annotations

from tunix_rt.errors import Violations
from tunix_rt.search_space.population import Origin, number_of
from tunix_rt.v1 import sweeps_pb2 as pb


def read_origin(spec: pb.SweepSpec, request: pb.CreateTrialRequest, violations: Violations) -> Origin | None:
    """The origin that ``request`` names, of a stored ``spec``; None: it names none, or a senseless one."""
    if not request.HasField("origin"):
        return None
    given, found = request.origin, violations.under("origin")
    if spec.scheduler != pb.TRIAL_SCHEDULER_PBT:
        violations.add("origin", "is of trials of a population: this sweep's scheduler is another")
        return None
    population = spec.num_samples
    known = [
        found.check(0 <= given.member < population, "member", f"must be in [0, {population}), the population"),
        found.check(given.generation >= 1, "generation", "must be at least 1"),
        found.check(bool(given.parent_trial_id), "parent_trial_id", "is required"),
        found.check(given.parent_step >= 1, "parent_step", "must be at least 1"),
    ]
    if not all(known):
        return None
    number = number_of(given.member, given.generation, population)
    violations.check(request.number == number, "number", f"must be {number}: population × generation + member")
    return Origin(given.member, given.generation, given.parent_trial_id, given.parent_step)
