"""Reads specs and values that users write: JSON, TOML or YAML files, NAME=VALUE, search-space domains."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput, Violations

# Argument names of each domain, in the order in which they are written.
DOMAINS = {
    "uniform": ("low", "high"),
    "quniform": ("low", "high", "q"),
    "loguniform": ("low", "high"),
    "randint": ("low", "high"),
    "normal": ("mean", "stddev"),
}
_CALL = re.compile(r"(?P<name>[a-z]+)\((?P<arguments>.*)\)")
_CONDITION = re.compile(r"(?P<domain>.*?)\s+when\s+(?P<rest>.*)", re.DOTALL)
_MEMBERSHIP = re.compile(r"(?P<parameter>[\w.]+)\s+in\s+(?P<values>.*\S)\s*", re.DOTALL)

_YAML_FLOAT = "tag:yaml.org,2002:float"
# https://yaml.org/spec/1.2.2/#1032-tag-resolution, without whole numbers.
_YAML_FLOAT_PATTERN = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?\Z|[-+]?[0-9]+[eE][-+]?[0-9]+\Z"
    r"|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"
)


def read_spec(path: Path) -> dict[str, Any]:
    """The object in a ``.json``, ``.toml``, ``.yaml`` or ``.yml`` file; raises `InvalidInput` naming file and place."""
    text = path.read_text(encoding="utf-8")
    try:
        document = _parse(path, text)
    except ValueError as error:
        raise InvalidInput([FieldViolation(str(path), str(error))]) from error
    if not isinstance(document, dict):
        raise InvalidInput([FieldViolation(str(path), f"must hold an object, not {type(document).__name__}")])
    return document


@dataclass(frozen=True)
class Labels:
    """What a spec file may say of a job beside its spec; it changes nothing of what the job does."""

    display_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def split_labels(document: Mapping[str, Any]) -> tuple[dict[str, Any], Labels]:
    """``document`` without ``display_name`` and ``tags``, and these; raises `InvalidInput` naming what is no text."""
    violations = Violations()
    name, tags = document.get("display_name", ""), document.get("tags", {})
    violations.check(isinstance(name, str), "display_name", "must be text")
    listed = violations.check(isinstance(tags, Mapping), "tags", "must be an object of texts")
    for key, value in tags.items() if listed else ():
        violations.check(isinstance(value, str), f"tags.{key}", "must be text")
    violations.raise_if_any()
    spec = {key: value for key, value in document.items() if key not in ("display_name", "tags")}
    return spec, Labels(name, dict(tags))


def _parse(path: Path, text: str) -> object:
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix not in (".yaml", ".yml"):
        return json.loads(text)
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise FailedPrecondition(f"{path} is YAML; install pyyaml to read it, or write it as JSON or TOML") from error
    try:
        return yaml.load(text, _yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {error}") from error


@cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader with the numbers of YAML 1.2's core schema: in YAML 1.1 ``1e-4`` is a text."""
    import yaml

    resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != _YAML_FLOAT]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    loader: Any = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})
    loader.add_implicit_resolver(_YAML_FLOAT, _YAML_FLOAT_PATTERN, list("-+0123456789."))
    return loader


def parse_value(text: str) -> Any:
    """A value as JSON where it is JSON (``3``, ``1e-3``, ``true``, ``["a"]``), else as the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def parse_settings(
    pairs: list[str] | None, option: str, given: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """``["a=1", "lora.rank=8"]`` → ``{"a": 1, "lora": {"rank": 8}}``; ``given`` values, by name, come before them."""
    violations = Violations()
    settings: dict[str, Any] = {}
    for name, value in given.items():
        _set(settings, name, value)
    for pair in pairs or []:
        name, separator, value = pair.partition("=")
        if violations.check(bool(separator and name), option, f"{pair!r} is not NAME=VALUE"):
            _set(settings, name.strip(), parse_value(value))
    violations.raise_if_any()
    return settings


def _set(settings: dict[str, Any], name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
    settings[leaf] = value


def parse_parameters(pairs: list[str] | None, option: str = "--param") -> dict[str, Any]:
    """Search-space options → domains.

    ``learning_rate=loguniform(1e-4,1e-2)``, ``per_device_batch_size=8,16,32`` (a choice), ``weight_decay=grid(0,0.1)``,
    ``lora.alpha=uniform(8,64) when lora.rank in 8,16`` (exists only in such trials).
    """
    violations = Violations()
    parameters: dict[str, Any] = {}
    for pair in pairs or []:
        name, separator, text = pair.partition("=")
        if violations.check(bool(separator and name), option, f"{pair!r} is not NAME=DOMAIN"):
            name = name.strip()
            if violations.check(name not in parameters, option, f"{name!r} is given twice"):
                parameters[name] = _parse_parameter(text.strip(), violations, f"{option} {name}")
    violations.raise_if_any()
    return parameters


def _parse_parameter(text: str, violations: Violations, path: str) -> Any:
    conditional = _CONDITION.fullmatch(text)
    if conditional is None:
        return _parse_domain(text, violations, path)
    domain = _parse_domain(conditional["domain"], violations, path)
    found = _MEMBERSHIP.fullmatch(conditional["rest"])
    if found is None:
        violations.add(path, f"'when {conditional['rest']}' is not 'when PARAMETER in VALUE,VALUE'")
        return domain
    when = {found["parameter"]: [parse_value(part.strip()) for part in found["values"].split(",")]}
    return (domain if isinstance(domain, dict) else {"choice": domain}) | {"when": when}


def _parse_domain(text: str, violations: Violations, path: str) -> Any:
    call = _CALL.fullmatch(text)
    if call is None:
        return [parse_value(part.strip()) for part in text.split(",")]
    name = call["name"]
    values = [parse_value(part.strip()) for part in call["arguments"].split(",") if part.strip()]
    if name in ("choice", "grid"):
        return {name: values}
    names = DOMAINS.get(name)
    if names is None:
        violations.add(path, f"{name!r} is none of {', '.join(('choice', 'grid', *DOMAINS))}")
        return values
    violations.check(len(values) == len(names), path, f"{name} takes ({', '.join(names)})")
    return {name: dict(zip(names, values, strict=False))}
