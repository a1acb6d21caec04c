"""Protobuf messages as the values that the rules are about, and back."""

from __future__ import annotations

from typing import Any

from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.hyperparameters import (
    ALL_LINEAR,
    DURATIONS,
    FLAT_RULES,
    LORA_RULES,
    MESH_RULES,
    Hyperparameters,
    Lora,
    Mesh,
)
from tunix_rt.v1 import common_pb2, runs_pb2


def hyperparameters_of(message: runs_pb2.Hyperparameters) -> Hyperparameters:
    """Every field as set in ``message``, else its default; nothing is checked."""
    given: dict[str, Any] = {name: getattr(message, name) for name in FLAT_RULES if _is_set(message, name)}
    if any(name in given for name in DURATIONS):
        given = {name: None for name in DURATIONS} | given
    return Hyperparameters(
        **given,
        lora=_lora(message.lora) if message.HasField("lora") else None,
        mesh=Mesh(**{name: getattr(message.mesh, name) or rule.default for name, rule in MESH_RULES.items()}),
    )


def hyperparameters_message(given: Hyperparameters) -> runs_pb2.Hyperparameters:
    """``given`` with every field set, as a run's spec is stored: also what is left open in `Lora`."""
    message = runs_pb2.Hyperparameters()
    for name in FLAT_RULES:
        value = getattr(given, name)
        if value is not None:
            setattr(message, name, value)
    for name in MESH_RULES:
        setattr(message.mesh, name, getattr(given.mesh, name))
    if given.lora is not None:
        for name, rule in LORA_RULES.items():
            value = getattr(given.lora, name)
            if rule.entries is None:
                setattr(message.lora, name, value)
            else:
                getattr(message.lora, name).extend(value)
        message.lora.alpha = given.lora.alpha or 2.0 * given.lora.rank
        if not given.lora.target_modules:
            message.lora.target_modules.append(ALL_LINEAR)
    return message


def generation_fields(message: common_pb2.GenerationConfig) -> dict[str, Any]:
    """The fields that are set in ``message``, by name; repeated ones as lists."""
    return {
        field.name: list(value) if GENERATION_RULES[field.name].entries is not None else value
        for field, value in message.ListFields()
    }


def _is_set(message: Any, name: str) -> bool:
    return bool(message.HasField(name))


def _lora(message: Any) -> Lora:
    given: dict[str, Any] = {name: getattr(message, name) for name in LORA_RULES}
    return Lora(**given | {name: tuple(given[name]) for name, rule in LORA_RULES.items() if rule.entries})
