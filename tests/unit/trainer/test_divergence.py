from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tunix_rt.trainer.engine.divergence import PATIENCE, DivergenceWatch

VOCABULARY = 1024
HALF_UNIFORM = 0.5 * math.log(VOCABULARY)  # 3.466


def stopped_at(losses: list[float], watch: DivergenceWatch | None = None) -> int | None:
    """The index of the loss that stops the run."""
    watch = watch or DivergenceWatch(VOCABULARY)
    return next((index for index, loss in enumerate(losses) if watch.diverged(loss)), None)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_a_divergence_at_once(loss: float) -> None:
    assert stopped_at([1.0, loss]) == 1


def test_ten_losses_in_a_row_above_the_bar_are_a_divergence() -> None:
    fine = [1.5, 1.3, 1.2, 1.1, 1.0]
    assert stopped_at(fine + [4.0] * 9 + [1.0] + [4.0] * 9) is None
    assert stopped_at(fine + [4.0] * 30) == len(fine) + 9


def test_a_fine_tuned_model_that_collapses_below_the_uniform_loss_is_caught() -> None:
    # Guessing by token frequency alone: far worse than before, yet better than uniform.
    assert HALF_UNIFORM < 5.0 < math.log(VOCABULARY)
    assert stopped_at([1.0] * 20 + [5.0] * 40) == 20 + PATIENCE - 1


def test_a_start_from_random_parameters_is_no_divergence_but_its_explosion_is() -> None:
    start = [7.1, 7.3, 7.6, 7.2, 7.0]
    assert stopped_at(start * 20) is None
    assert stopped_at([*start, *np.geomspace(8, 4000, 30).tolist()]) is not None


def test_noise_of_small_batches_and_stumbles_of_a_run_that_overfits_are_no_divergence() -> None:
    source = np.random.default_rng(0)
    for seed_of_noise in range(20):
        noisy = np.random.default_rng(seed_of_noise).lognormal(0.0, 1.0, 500)
        assert stopped_at(noisy.tolist()) is None
    learnt_by_heart = [0.001] * 100 + source.uniform(0.05, 2.0, 100).tolist()
    assert stopped_at(learnt_by_heart) is None


def test_suspicious_losses_do_not_raise_the_bar() -> None:
    watch = DivergenceWatch(VOCABULARY)
    for _ in range(30):
        watch.diverged(2.0)
    bar = watch.bar
    assert bar == 6.0
    for _ in range(PATIENCE - 1):
        assert not watch.diverged(50.0)
    assert watch.bar == bar
    assert watch.suspicious


def test_a_watch_that_is_carried_over_through_json_judges_as_the_other_would() -> None:
    losses = [*np.random.default_rng(3).uniform(1, 2, 80).tolist(), *[9.0] * 20]
    whole = stopped_at(losses)
    assert whole == 89
    for cut in (1, 40, 80, 85):
        first = DivergenceWatch(VOCABULARY)
        assert stopped_at(losses[:cut], first) is None
        kept = json.loads(json.dumps(first.position()))
        resumed = stopped_at(losses[cut:], DivergenceWatch(VOCABULARY).seek(kept))
        assert resumed is not None
        assert cut + resumed == whole
