"""Requests of DatasetService, checked field by field and turned into what the domain takes."""

from __future__ import annotations

from typing import Final

from tunix_rt.errors import Violations
from tunix_rt.registry.datasets.rules import BuildSpec, ImportSpec
from tunix_rt.registry.kernel.fields import check_id, check_ids, check_name, check_request_id, check_tags
from tunix_rt.traces.recipes import RECIPES
from tunix_rt.v1 import datasets_pb2 as pb

MAX_SIZE: Final = 1_000_000
MAX_TRACE_TOKENS: Final = 1_000_000


def build_spec(request: pb.BuildDatasetRequest) -> BuildSpec:
    """The build that ``request`` asks for, the recipe's own values filled in. Raises `InvalidInput`."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    recipe = RECIPES.get(request.recipe)
    names = ", ".join(sorted(RECIPES))
    violations.check(recipe is not None, "recipe", f"unknown recipe {request.recipe!r}; there are: {names}")
    if request.key:
        check_name(violations, request.key, "key")
    if request.HasField("size"):
        violations.check(1 <= request.size <= MAX_SIZE, "size", f"must be from 1 to {MAX_SIZE}")
    if request.HasField("seed"):
        violations.check(request.seed >= 0, "seed", "must be at least 0")
    budget = _budget(violations, request, "max_trace_tokens")
    check_ids(violations, request.decontaminate_evalset_ids, "decontaminate_evalset_ids")
    check_tags(violations, request.tags)
    violations.raise_if_any()
    assert recipe is not None
    return BuildSpec(
        recipe=request.recipe,
        key=request.key or request.recipe,
        size=request.size if request.HasField("size") else recipe.default_size,
        seed=request.seed if request.HasField("seed") else recipe.default_seed,
        max_trace_tokens=budget,
        decontaminate=tuple(request.decontaminate_evalset_ids),
        tags=dict(request.tags),
    )


def import_spec(spec: pb.ImportDatasetSpec) -> ImportSpec:
    """The import that the stream's first message asks for. Raises `InvalidInput` with fields under ``spec.``."""
    violations = Violations("spec.")
    check_request_id(violations, spec.request_id)
    check_name(violations, spec.key, "key")
    budget = _budget(violations, spec, "max_trace_tokens")
    check_ids(violations, spec.decontaminate_evalset_ids, "decontaminate_evalset_ids")
    check_tags(violations, spec.tags)
    violations.raise_if_any()
    return ImportSpec(
        key=spec.key,
        max_trace_tokens=budget,
        decontaminate=tuple(spec.decontaminate_evalset_ids),
        tags=dict(spec.tags),
    )


def export_format(request: pb.ExportDatasetRequest) -> str:
    """The name of the format asked for. Raises `InvalidInput`."""
    violations = Violations()
    check_id(violations, request.id, "id")
    names = {
        pb.EXPORT_FORMAT_TRACE: "trace",
        pb.EXPORT_FORMAT_TUNIX_SFT: "tunix_sft",
        pb.EXPORT_FORMAT_CHAT: "chat",
    }
    violations.check(request.format in names, "format", "must be TRACE, TUNIX_SFT or CHAT")
    violations.raise_if_any()
    return names[request.format]


def check_delete(request: pb.DeleteDatasetRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    check_request_id(violations, request.request_id)
    check_id(violations, request.id, "id")
    violations.raise_if_any()


def _budget(violations: Violations, message: pb.BuildDatasetRequest | pb.ImportDatasetSpec, field: str) -> int | None:
    if not message.HasField("max_trace_tokens"):
        return None
    violations.check(1 <= message.max_trace_tokens <= MAX_TRACE_TOKENS, field, f"must be from 1 to {MAX_TRACE_TOKENS}")
    return message.max_trace_tokens
