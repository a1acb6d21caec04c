from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.optimizer import coefficients_of, decay_mask, learning_rate_at, optimizer_at


def rates(kind: str, warmup: int, total: int, peak: float = 0.1) -> list[float]:
    return [float(learning_rate_at(count, kind, peak, warmup, total)) for count in range(total)]


def test_warm_up_is_linear_and_reaches_the_peak_at_its_last_step() -> None:
    assert rates("constant", 4, 6) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_linear_decay_leaves_the_last_step_with_its_share() -> None:
    assert rates("linear", 0, 5) == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02])


def test_cosine_decay_is_the_closed_form_and_optax_agrees() -> None:
    found = rates("cosine", 3, 13)
    closed = [0.05 * (1 + math.cos(math.pi * k / 10)) for k in range(10)]
    peer = optax.cosine_decay_schedule(0.1, 10)
    assert found[3:] == pytest.approx(closed)
    assert found[3:] == pytest.approx([float(peer(k)) for k in range(10)])


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak() -> None:
    assert rates("cosine", 10, 3) == pytest.approx([0.01, 0.02, 0.03])


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_schedules_are_those_of_transformers_but_for_a_warm_up_that_does_not_start_at_zero(
    kind: str, warmup: int
) -> None:
    # Seconds to import, for this test alone.
    import torch
    from transformers import get_scheduler

    name = "constant_with_warmup" if kind == "constant" else kind
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    peer = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=12)
    theirs = []
    for _ in range(12):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        peer.step()
    ours = rates(kind, warmup, 12)
    assert ours[warmup:] == pytest.approx(theirs[warmup:], rel=1e-5)
    # Theirs takes the first step at rate 0; ours is one step ahead until the peak.
    assert ours[: max(0, warmup - 1)] == pytest.approx(theirs[1:warmup], rel=1e-5)


def test_norm_scales_are_not_decayed_although_stacking_makes_matrices_of_them(decoder: Decoder) -> None:
    parameters = nnx.state(decoder, nnx.Param)
    mask = nnx.to_pure_dict(decay_mask(parameters))
    assert mask["norm"]["scale"] is False
    assert mask["blocks"]["input_norm"]["scale"] is False
    assert mask["blocks"]["mlp"]["down"]["kernel"] is True
    assert mask["embedding"] is True


def test_one_update_is_adamw_by_hand_behind_the_clip() -> None:
    hp = Hyperparameters(learning_rate=0.1, weight_decay=0.5, max_grad_norm=1.0, adam_epsilon=1e-8)
    optimizer = optimizer_at(hp.learning_rate, coefficients_of(hp, 1))
    parameters = {"kernel": jnp.asarray([[2.0, -1.0]]), "scale": jnp.asarray([3.0])}
    gradients = {"kernel": jnp.asarray([[3.0, 0.0]]), "scale": jnp.asarray([-4.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    # Norm 5 is clipped to 1; the first Adam step is the sign of each gradient; decay is 0.5 of the kernel alone.
    np.testing.assert_allclose(updates["kernel"], [[-0.1 * (1 + 1.0), -0.1 * (0 - 0.5)]], rtol=1e-5)
    np.testing.assert_allclose(updates["scale"], [0.1], rtol=1e-5)
