"""What the compiled engine draws follows the exact distribution: chi-squared over thousands of seeds.

All kinds of sampling share the slots, in turn, so that each draw has neighbours of other kinds. Expected probabilities
are made in float64 from the logits of the training decoder, by sorting; neither the cache nor the sampler has a part
in them. The seeds are fixed, and so is every p-value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from scipy import stats

from tunix_rt.inferencer.engine.interface import SlotSpec
from tunix_rt.inferencer.engine.jax_engine import EngineShape, JaxEngine
from tunix_rt.inferencer.generation import Sampling
from tunix_rt.models.cached import decode_weights
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder

CONFIG = ModelConfig(
    vocab_size=24,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    initializer_range=0.3,
)
# Its tokens are among the likeliest to follow, so that a penalty counts.
PROMPT = (18, 3, 7, 17, 4)
SEEDS = [(i - 1000) * 0x9E37_79B9_7F4A for i in range(2000)]
# Each kind, and one that is wrong by little: the test must tell them apart.
KINDS: dict[str, tuple[Sampling, Sampling]] = {
    "plain": (Sampling(1.0), Sampling(1.2)),
    "temperature": (Sampling(0.6), Sampling(0.7)),
    "top_k": (Sampling(1.0, top_k=6), Sampling(1.0, top_k=7)),
    "top_p": (Sampling(1.0, top_p=0.9), Sampling(1.0, top_p=0.94)),
    "min_p": (Sampling(1.0, min_p=0.1), Sampling(1.0, min_p=0.2)),
    "repetition_penalty": (Sampling(1.0, repetition_penalty=1.5), Sampling(1.0, repetition_penalty=1.2)),
    "all": (
        Sampling(1.3, top_k=12, top_p=0.9, min_p=0.28, repetition_penalty=1.4),
        Sampling(1.3, top_k=12, top_p=0.9, min_p=0.28, repetition_penalty=1.1),
    ),
}
# Below this a fixed set of seeds is no accident; a wrong kind must be far below.
LEAST_P, WRONG_P = 1e-3, 1e-6


def probabilities(logits: NDArray[np.float64], context: Sequence[int], sampling: Sampling) -> NDArray[np.float64]:
    """[V]: penalty, temperature, top-k, top-p, min-p, in this order."""
    scores = logits.copy()
    for token in set(context):
        penalty = sampling.repetition_penalty
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    scores /= sampling.temperature
    order = np.argsort(-scores)
    if sampling.top_k:
        scores[order[sampling.top_k :]] = -np.inf
    mass = np.exp(scores - scores.max())
    mass /= mass.sum()
    if sampling.top_p < 1:
        before = np.cumsum(mass[order]) - mass[order]
        mass[order[before >= sampling.top_p]] = 0
    mass[mass < sampling.min_p * mass.max()] = 0
    return np.asarray(mass / mass.sum())


def p_value(observed: Mapping[int, int], expected: NDArray[np.float64]) -> float:
    """Of Pearson's chi-squared; tokens that are expected fewer than 5 times count as one. 0 for an impossible token."""
    counts = np.asarray([observed.get(token, 0) for token in range(len(expected))])
    wanted = expected * counts.sum()
    if np.any(counts[wanted == 0]):
        return 0.0
    common = wanted >= 5
    rest = ~common & (wanted > 0)
    if rest.any():
        counts = np.append(counts[common], counts[rest].sum())
        wanted = np.append(wanted[common], wanted[rest].sum())
    else:
        counts, wanted = counts[common], wanted[common]
    return float(stats.chisquare(counts, wanted).pvalue)


@nnx.jit
def _last_logits(decoder: Decoder, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    return decoder(tokens, positions)[:, -1]


class Model:
    """A random model with 24 tokens, its engine, and its logits without one."""

    def __init__(self) -> None:
        self._decoder = Decoder(CONFIG, rngs=nnx.Rngs(5))
        self._engine = JaxEngine(decode_weights(self._decoder), CONFIG, EngineShape(64, 16, 8, 2))

    def logits(self, contexts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """[N, V]: behind each of N contexts of one length."""
        tokens = jnp.asarray(contexts, jnp.int32)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        return np.asarray(_last_logits(self._decoder, tokens, positions), np.float64)

    def draw(self, specs: Sequence[SlotSpec]) -> list[tuple[int, ...]]:
        """The tokens of each, 64 at a time."""
        engine, found = self._engine, []
        for start in range(0, len(specs), engine.slots):
            some = specs[start : start + engine.slots]
            for slot, spec in enumerate(some):
                engine.open(slot, spec)
                assert engine.prefill(slot)
            answers = {row.slot: row.tokens for row in engine.decode(leave_early=False)}
            for slot in range(len(some)):
                found.append(tuple(token.token_id for token in answers[slot]))
                engine.close(slot)
        return found


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def counts(model: Model) -> dict[str, Counter[int]]:
    """How often each kind drew each token behind the prompt."""
    asked = [
        (kind, replace(right, seed=seed + number))
        for seed in SEEDS
        for number, (kind, (right, _)) in enumerate(KINDS.items())
    ]
    answers = model.draw([SlotSpec(PROMPT, sampling, 1, frozenset()) for _, sampling in asked])
    found: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    for (kind, _), (token,) in zip(asked, answers, strict=True):
        found[kind][token] += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_draws_of_the_engine_follow_the_exact_distribution(
    kind: str, model: Model, counts: dict[str, Counter[int]]
) -> None:
    right, wrong = KINDS[kind]
    (logits,) = model.logits([PROMPT])
    found = p_value(counts[kind], probabilities(logits, PROMPT, right))
    assert found > LEAST_P
    assert p_value(counts[kind], probabilities(logits, PROMPT, wrong)) < WRONG_P
    print(f"{kind}: p = {found:.3f}")


@pytest.mark.slow
def test_the_kinds_differ_and_none_is_certain(model: Model) -> None:
    (logits,) = model.logits([PROMPT])
    expected = [probabilities(logits, PROMPT, right) for right, _ in KINDS.values()]
    assert all(np.count_nonzero(one * len(SEEDS) >= 5) >= 4 for one in expected)
    for i, one in enumerate(expected):
        assert all(np.abs(one - other).sum() > 0.05 for other in expected[:i])


@pytest.mark.slow
def test_a_token_of_the_answer_is_penalised_like_one_of_the_prompt(model: Model) -> None:
    """How often the second token repeats the first: a sum of draws of known probabilities, which is nearly normal."""
    sampling = Sampling(1.0, repetition_penalty=3.0)
    answers = model.draw([SlotSpec(PROMPT, replace(sampling, seed=seed), 2, frozenset()) for seed in SEEDS])
    new = [(first, second) for first, second in answers if first not in PROMPT]
    tokens = range(CONFIG.vocab_size)
    behind = model.logits([(*PROMPT, first) for first in tokens])

    def p_of(penalised: bool) -> float:
        again = [
            probabilities(behind[first], (*PROMPT, first) if penalised else PROMPT, sampling)[first] for first in tokens
        ]
        each = np.asarray([again[first] for first, _ in new])
        observed = sum(first == second for first, second in new)
        deviation = (observed - each.sum()) / np.sqrt(np.sum(each * (1 - each)))
        print(f"{observed} of {len(new)} repeat, expected {each.sum():.1f}")
        return float(2 * stats.norm.sf(abs(deviation)))

    assert p_of(penalised=True) > LEAST_P
    assert p_of(penalised=False) < WRONG_P
