"""Can this run be carried out here? Every problem at once, and what it would cost. Knows no protobuf."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.errors import FieldViolation, Transient, Violations
from tunix_rt.trainer.hyperparameters import Hyperparameters, check_hyperparameters
from tunix_rt.trainer.memory import ModelShape, available_bytes, estimate_training_bytes

FAMILIES = ("llama",)
_PROBE_SECONDS = 60.0
_REFERENCES = ("hf", "file", "gguf", "preset", "pkg", "model")


@dataclass(frozen=True)
class Machine:
    """The devices that training would run on."""

    platform: str
    devices: tuple[str, ...]
    presets: tuple[str, ...]


@dataclass(frozen=True)
class Assessment:
    """Problems by field path; the model is None where only the registry or a hub knows it."""

    problems: tuple[FieldViolation, ...]
    model: ModelShape | None
    estimated_bytes: int
    available_bytes: int
    machine: Machine


async def assess(base_model: str, hp: Hyperparameters, *, pool: str, own_pool: str, cache_dir: Path) -> Assessment:
    """Check a spec against this trainer. Fields are named from the request (``spec.hyperparameters.lora``).

    Raises `Transient` when the machine cannot be asked now.
    """
    found = Violations("spec.")
    found.check(bool(base_model), "base_model", "is required")
    found.check(pool in ("", own_pool), "pool", f"this trainer works for pool {own_pool!r}")
    check_hyperparameters(hp, found.under("hyperparameters"))
    local = bool(base_model) and not base_model.startswith("model://")
    answer = await _probe(*([base_model, str(cache_dir)] if local else []))
    for field, description in answer.get("problems", ()):
        found.add(field, description)
    model = ModelShape(**answer["model"]) if "model" in answer else None
    machine = Machine(answer["platform"], tuple(answer["devices"]), tuple(answer["presets"]))
    available = available_bytes()
    estimate = 0
    if model is not None:
        estimate = estimate_training_bytes(
            model,
            rows=hp.per_device_batch_size,
            length=min(hp.max_seq_length, model.max_position_embeddings),
            bytes_per_activation=2 if hp.dtype == "bfloat16" else 4,
            remat=hp.gradient_checkpointing,
        )
        if machine.platform == "cpu" and estimate > available:
            found.add(
                "hyperparameters.per_device_batch_size",
                f"about {estimate / 2**30:.1f} GiB are needed, {available / 2**30:.1f} GiB are free: "
                "lower it or max_seq_length, or set gradient_checkpointing",
            )
    return Assessment(tuple(found), model, estimate, available, machine)


async def look_at_machine() -> Machine:
    """The devices of this machine. Raises `Transient` when it cannot be asked now."""
    answer = await _probe()
    return Machine(answer["platform"], tuple(answer["devices"]), tuple(answer["presets"]))


async def _probe(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tunix_rt.trainer.probe",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("TUNIX_RT_")},
    )
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise Transient(f"looking at this machine took more than {_PROBE_SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Transient(f"cannot look at this machine: {errors.decode(errors='replace')[-500:]}")
    answer: dict[str, Any] = json.loads(output)
    return answer
