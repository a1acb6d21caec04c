"""Generation configs, checked and completed once, so that a stored config has every field set."""

from __future__ import annotations

from typing import Any

from tunix_rt.contract.generation import check_generation, complete_generation
from tunix_rt.contract.messages import generation_fields
from tunix_rt.errors import Violations
from tunix_rt.v1 import common_pb2


def resolve_generation(given: common_pb2.GenerationConfig, violations: Violations) -> dict[str, Any]:
    """``given`` with every unset field at its default; what no inferencer serves goes into ``violations``."""
    config = complete_generation(generation_fields(given))
    check_generation(config, violations)
    return config
