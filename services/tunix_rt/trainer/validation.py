"""Checks whether a run can be carried out here: all problems at once, and its memory needs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunix_rt.contract.hyperparameters import Hyperparameters, check_hyperparameters
from tunix_rt.errors import FieldViolation, Transient, Violations
from tunix_rt.trainer.memory import (
    ADVICE,
    RUNTIME_BYTES,
    ModelShape,
    StepShape,
    available_bytes,
    estimate_training_bytes,
)
from tunix_rt.trainer.process import training_environment

_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Machine:
    """The devices that training would run on."""

    platform: str
    devices: tuple[str, ...]
    presets: tuple[str, ...]
    families: tuple[str, ...]
    # Memory of the smallest device; 0 where devices share the machine's.
    device_bytes: int


@dataclass(frozen=True)
class Assessment:
    """Problems and warnings by field path; the model is None where only the registry or a hub knows it."""

    problems: tuple[FieldViolation, ...]
    warnings: tuple[FieldViolation, ...]
    model: ModelShape | None
    estimated_bytes: int
    available_bytes: int
    machine: Machine


async def assess(
    base_model: str,
    hp: Hyperparameters,
    *,
    pool: str,
    own_pool: str,
    cache_dir: Path,
    artifacts_uri: str,
    simulated_devices: int = 0,
    processes: int = 1,
) -> Assessment:
    """Check a spec against this trainer. Fields are named from the request (``spec.hyperparameters.lora``).

    ``processes`` that train together are taken to have as many devices each as this one.
    Raises `Transient` when the machine cannot be asked now.
    """
    found = Violations("spec.")
    found.check(bool(base_model), "base_model", "is required")
    found.check(pool in ("", own_pool), "pool", f"this trainer works for pool {own_pool!r}")
    check_hyperparameters(hp, found.under("hyperparameters"))
    local = bool(base_model) and not base_model.startswith("model://")
    lora = json.dumps(dataclasses.asdict(hp.lora) if hp.lora is not None else None)
    about = [base_model, str(cache_dir), lora, artifacts_uri] if local else []
    answer = await _probe(*about, simulated_devices=simulated_devices)
    for field, description in answer.get("problems", ()):
        found.add(field, description)
    model = ModelShape(**answer["model"]) if "model" in answer else None
    machine = _machine(answer)
    devices = processes * len(machine.devices)
    if hp.mesh.size > devices:
        found.add("hyperparameters.mesh", f"needs {hp.mesh.size} devices, this trainer has {devices}")
    elif processes > 1 and hp.mesh.size != devices:
        found.add("hyperparameters.mesh", f"has {hp.mesh.size} devices; {processes} processes use all {devices}")
    available = machine.device_bytes or available_bytes()
    estimate = _estimate(model, hp, machine) if model is not None else 0
    if estimate > available:
        found.add(
            "hyperparameters.per_device_batch_size",
            f"about {estimate / 2**30:.1f} GiB are needed, {available / 2**30:.1f} GiB are free: {ADVICE}",
        )
    warnings = tuple(FieldViolation(f"spec.{field}", text) for field, text in answer.get("warnings", ()))
    return Assessment(tuple(found), warnings, model, estimate, available, machine)


async def look_at_machine(simulated_devices: int = 0) -> Machine:
    """The devices of this machine. Raises `Transient` when it cannot be asked now."""
    answer = await _probe(simulated_devices=simulated_devices)
    return _machine(answer)


def _machine(answer: dict[str, Any]) -> Machine:
    return Machine(
        platform=answer["platform"],
        devices=tuple(answer["devices"]),
        presets=tuple(answer["presets"]),
        families=tuple(answer["families"]),
        device_bytes=answer["device_bytes"],
    )


def _estimate(model: ModelShape, hp: Hyperparameters, machine: Machine) -> int:
    """What a device needs; where devices have no memory of their own, what all of them need of the machine's."""
    shared = machine.device_bytes == 0
    run = StepShape(
        rows=hp.per_device_batch_size,
        length=min(hp.max_seq_length, model.max_position_embeddings),
        # XLA on CPU computes in float32 whatever the type of the activations.
        bytes_per_activation=2 if hp.dtype == "bfloat16" and machine.platform != "cpu" else 4,
        remat=hp.gradient_checkpointing,
        accumulates=hp.gradient_accumulation_steps > 1,
        fsdp=hp.mesh.fsdp,
        tensor=hp.mesh.tensor,
        optimizer=hp.optimizer,
    )
    of_device = estimate_training_bytes(model, run)
    return of_device * hp.mesh.size + RUNTIME_BYTES if shared else of_device


async def _probe(*arguments: str, simulated_devices: int = 0) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tunix_rt.trainer.probe",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=training_environment(simulated_devices),
    )
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise Transient(f"inspecting this machine took more than {_PROBE_SECONDS:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Transient(f"cannot inspect this machine: {errors.decode(errors='replace')[-500:]}")
    answer: dict[str, Any] = json.loads(output)
    return answer
