"""What a sweep's spec must satisfy, and its defaults: the rules of its base run, and those of `search_space`."""

from __future__ import annotations

from tunix_rt.errors import Violations
from tunix_rt.registry.runs.catalogue import Catalogue
from tunix_rt.registry.runs.checks import check_attempts, resolve_spec
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.messages import read_space
from tunix_rt.v1 import sweeps_pb2 as pb


def resolve_sweep(given: pb.SweepSpec, catalogue: Catalogue, violations: Violations) -> pb.SweepSpec:
    """``given`` with every default filled in; ``violations`` gets all that is wrong, with paths from the spec."""
    spec = pb.SweepSpec()
    spec.CopyFrom(given)
    spec.base.CopyFrom(resolve_spec(given.base, catalogue, violations.under("base")))
    read_space(spec, violations)
    spec.max_attempts = check_attempts(given.max_attempts, violations)
    return with_defaults(spec)
