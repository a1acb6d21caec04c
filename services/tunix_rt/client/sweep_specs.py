"""Search spaces as people write them → the fields of `SweepSpec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tunix_rt.client.arguments import to_message
from tunix_rt.client.records import Record
from tunix_rt.errors import Violations
from tunix_rt.v1 import sweeps_pb2 as pb

# A list of values (a choice), or one domain by its name, and under which condition the parameter exists.
Domain: TypeAlias = Mapping[str, Any] | Sequence[Any]

_WHEN = "when"


def sweep_parameters(parameters: Mapping[str, Domain]) -> list[dict[str, Any]]:
    """Search-space arguments → `Parameter` fields.

    ``{"learning_rate": {"loguniform": {"low": 1e-5, "high": 1e-3}}, "packing": [True, False]}``: a domain by its
    name, or a list of values, which is a choice. A domain with ``"when": {"lora.rank": [8, 16]}`` beside it exists
    only in trials where that other parameter has one of these values.
    """
    violations = Violations("parameters.")
    fields = [_parameter(name, domain, violations) for name, domain in parameters.items()]
    violations.raise_if_any()
    return fields


def sweep_spec(spec: pb.SweepSpec | Record | Mapping[str, Any] | None = None, **over: Any) -> pb.SweepSpec:
    """A sweep's spec from ``spec`` with the keyword arguments laid over it. ``parameters`` may be a mapping.

    Nested messages are merged field by field; lists and the search space are replaced as a whole.
    """
    if isinstance(spec, Mapping):
        spec = _with_listed_parameters(spec)
    merged = to_message(pb.SweepSpec, spec, "spec")
    given = {name: value for name, value in over.items() if value is not None}
    laid_over = to_message(pb.SweepSpec, _with_listed_parameters(given), "spec")
    for name in ("parameters", "pools"):
        if name in given:
            merged.ClearField(name)
    merged.MergeFrom(laid_over)
    return merged


def _parameter(name: str, domain: Domain, violations: Violations) -> dict[str, Any]:
    if isinstance(domain, Sequence) and not isinstance(domain, str):
        return {"name": name, "choice": {"values": list(domain)}}
    kinds = {key: values for key, values in domain.items() if key != _WHEN} if isinstance(domain, Mapping) else {}
    if not violations.check(
        len(kinds) == 1, name, 'must be a list of values, or one domain such as {"uniform": {"low": 0, "high": 1}}'
    ):
        return {}
    ((kind, values),) = kinds.items()
    listed = kind in ("choice", "grid") and not isinstance(values, Mapping)
    field = {"name": name, kind: {"values": list(values)} if listed else values}
    if isinstance(domain, Mapping) and _WHEN in domain:
        field[_WHEN] = _condition(domain[_WHEN], violations.under(name))
    return field


def _condition(when: Any, violations: Violations) -> dict[str, Any]:
    if isinstance(when, Mapping) and len(when) == 1:
        ((parameter, values),) = when.items()
        if isinstance(values, Sequence) and not isinstance(values, str):
            return {"parameter": parameter, "values": list(values)}
    violations.add(_WHEN, 'must name one parameter and its values, such as {"lora.rank": [8, 16]}')
    return {}


def _with_listed_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    parameters = spec.get("parameters")
    if not isinstance(parameters, Mapping):
        return dict(spec)
    return {**spec, "parameters": sweep_parameters(parameters)}
