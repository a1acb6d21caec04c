from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tunix_rt.contract.hyperparameters import Hyperparameters, check_hyperparameters, warnings_of
from tunix_rt.errors import Violations
from tunix_rt.models.decoder import Decoder
from tunix_rt.trainer.engine.optimizer import coefficients_of, decay_mask, learning_rate_at, optimizer_at


def rates(kind: str, warmup: int, total: int, peak: float = 0.1, **floor: float) -> list[float]:
    return [float(learning_rate_at(count, kind, peak, warmup, total, **floor)) for count in range(total)]


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


def test_a_stable_phase_lies_between_warm_up_and_decay_and_both_ends_are_at_the_floor() -> None:
    found = rates("warmup_stable_decay", 2, 10, min_lr_ratio=0.1, decay_steps=4)
    half = [0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert found == pytest.approx([0.055, *[0.1] * 5, *(0.1 * (0.1 + 0.9 * share) for share in half)])


def test_a_share_of_warm_up_and_the_usual_decay_are_rounded_up() -> None:
    hp = Hyperparameters(warmup_ratio=0.05, lr_scheduler_type="warmup_stable_decay")
    c = coefficients_of(hp, 61)
    assert (c.warmup_steps, c.decay_steps) == (4, 7)
    given = coefficients_of(Hyperparameters(warmup_steps=50, num_decay_steps=30, max_steps=61), 61)
    assert (given.warmup_steps, given.decay_steps) == (50, 11)


def test_odd_schedules_are_told_and_usual_ones_are_not() -> None:
    assert warnings_of(Hyperparameters(warmup_steps=99, eval_steps=25)) == ()
    never, meet = warnings_of(Hyperparameters(warmup_steps=10, max_steps=3, save_steps=7, eval_steps=5))
    assert never.startswith("warmup_steps is 10 of 3 steps: learning_rate 0.0001 is never reached")
    assert meet.startswith("save_steps 7 and eval_steps 5 meet every 35 steps")
    epochs = Hyperparameters(max_steps=None, num_epochs=1.0, warmup_steps=10)
    assert warnings_of(epochs) == ()
    assert "at the last step alone" in warnings_of(epochs, 10)[0]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"warmup_ratio": 0.1, "warmup_steps": 10}, ["warmup_ratio"]),
        ({"min_lr_ratio": 0.1}, ["min_lr_ratio"]),
        (
            {"min_lr_ratio": 0.1, "num_decay_steps": 5, "lr_scheduler_type": "linear"},
            ["min_lr_ratio", "num_decay_steps"],
        ),
        ({"num_decay_steps": 11, "max_steps": 10, "lr_scheduler_type": "warmup_stable_decay"}, ["num_decay_steps"]),
        ({"min_lr_ratio": 0.1, "lr_scheduler_type": "cosine_with_min_lr"}, []),
        ({"early_stopping_patience": 2}, ["early_stopping_patience"]),
        ({"early_stopping_threshold": 0.1, "eval_steps": 5}, ["early_stopping_threshold"]),
        ({"load_best_model_at_end": True}, ["load_best_model_at_end"]),
        ({"load_best_model_at_end": True, "eval_steps": 5, "save_steps": 7}, ["load_best_model_at_end"]),
        ({"load_best_model_at_end": True, "eval_steps": 5, "save_steps": 0}, ["load_best_model_at_end"]),
        ({"load_best_model_at_end": True, "eval_steps": 5, "save_steps": 10, "early_stopping_patience": 2}, []),
        ({"num_decay_steps": 10, "max_steps": 10, "lr_scheduler_type": "warmup_stable_decay"}, []),
    ],
)
def test_settings_of_a_schedule_that_do_not_go_together_are_named(given: dict[str, Any], fields: list[str]) -> None:
    found = Violations()
    check_hyperparameters(Hyperparameters(**given), found)
    assert [violation.field for violation in found] == fields


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "cosine_with_min_lr", "warmup_stable_decay"])
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
    settings: dict[str, dict[str, float]] = {
        "cosine_with_min_lr": {"min_lr_rate": 0.2},
        "warmup_stable_decay": {"min_lr_ratio": 0.2, "num_decay_steps": 5},
    }
    peer = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=12,
        scheduler_specific_kwargs=settings.get(kind),
    )
    theirs = []
    for _ in range(12):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        peer.step()
    ours = rates(kind, warmup, 12, min_lr_ratio=0.2, decay_steps=5)
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
