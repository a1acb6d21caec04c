from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.sharding import PartitionSpec

from tunix_rt.contract.hyperparameters import Mesh
from tunix_rt.errors import InvalidInput
from tunix_rt.models.config import ModelConfig
from tunix_rt.trainer.engine.sharding import make_mesh, partition, spec


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What `mesh_losses.py` prints; compiled without optimisation, for it compiles much and computes little."""
    flags = "--xla_backend_optimization_level=0"
    answer = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mesh_losses.py"))],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4", "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(answer.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["data", "fsdp", "fsdp x tensor"])
@pytest.mark.parametrize("key", ["loss", "grad_norm", "token_accuracy"])
def test_a_mesh_trains_like_one_device_on_the_same_batches(found: dict[str, Any], name: str, key: str) -> None:
    one = found["runs"]["one"][key]
    assert found["runs"][name][key] == pytest.approx(one, abs=1e-4)
    if key == "loss":
        assert one[-1] < one[0]


def test_a_device_holds_its_share_of_every_matrix_and_of_its_moments(found: dict[str, Any]) -> None:
    """How many times smaller a device's part is than the whole: fsdp x tensor is four, norms stay whole."""
    split = found["runs"]["fsdp x tensor"]["split"]
    matrices = {path: share for path, share in split.items() if "kernel" in path or "embedding" in path}
    assert set(matrices.values()) == {4.0}
    assert sum("mu" in path for path in matrices) == sum("parameters" in path for path in matrices) == 8
    assert {share for path, share in split.items() if "scale" in path} == {1.0}
    assert set(found["runs"]["data"]["split"].values()) == {1.0}


def test_loss_in_chunks_is_the_same_when_each_device_works_off_its_own_rows(found: dict[str, Any]) -> None:
    one, spread = found["chunked"]["one"], found["chunked"]["spread"]
    assert spread["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert spread["gradients"] == pytest.approx(one["gradients"], rel=1e-5)


CONFIG = ModelConfig(
    vocab_size=30,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=4,
    tie_word_embeddings=True,
)


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("blocks.attention.q.kernel", (2, 16, 16), spec(None, "fsdp", "tensor")),
        ("blocks.attention.o.kernel", (2, 16, 16), spec(None, "tensor", "fsdp")),
        # One key head cannot be halved; its input still can.
        ("blocks.attention.k.kernel", (2, 16, 4), spec(None, "fsdp", None)),
        ("blocks.mlp.gate.kernel", (2, 16, 24), spec(None, "fsdp", "tensor")),
        ("blocks.mlp.down.kernel", (2, 24, 16), spec(None, "tensor", "fsdp")),
        ("blocks.mlp.down.adapter.a", (2, 24, 3), spec(None, "tensor", None)),
        ("blocks.mlp.down.adapter.b", (2, 3, 16), spec(None, None, "fsdp")),
        ("blocks.mlp.gate.adapter.b", (2, 3, 24), spec(None, None, "tensor")),
        ("blocks.attention.c_attn.kernel", (2, 16, 48), spec(None, "fsdp", None)),
        # Each expert is split like an MLP; the router's outputs are compared with each other.
        ("blocks.moe.experts.gate.kernel", (2, 3, 16, 24), spec(None, None, "fsdp", "tensor")),
        ("blocks.moe.experts.down.kernel", (2, 3, 24, 16), spec(None, None, "tensor", "fsdp")),
        ("blocks.moe.router.kernel", (2, 16, 8), spec(None, "fsdp", None)),
        ("blocks.attention.qkv.kernel", (2, 16, 24), spec(None, "fsdp", None)),
        ("blocks.mlp.gate_up.kernel", (2, 16, 48), spec(None, "fsdp", None)),
        ("blocks.mlp.c_proj.kernel", (2, 24, 16), spec(None, "tensor", "fsdp")),
        # 30 tokens are not divisible by 4.
        ("embedding", (30, 16), spec(None, "fsdp")),
        ("blocks.input_norm.scale", (2, 16), spec()),
        ("norm.scale", (16,), spec()),
    ],
)
def test_the_rule_table(path: str, shape: tuple[int, ...], expected: PartitionSpec) -> None:
    assert partition(tuple(path.split(".")), shape, {"data": 1, "fsdp": 2, "tensor": 4}, CONFIG) == expected


def test_a_mesh_that_needs_more_devices_than_there_are_is_refused_by_field() -> None:
    needed = len(jax.devices()) + 1
    with pytest.raises(InvalidInput) as refused:
        make_mesh(Mesh(fsdp=needed))
    (violation,) = refused.value.violations
    assert violation.field == "hyperparameters.mesh"
    assert f"needs {needed} devices" in violation.description
