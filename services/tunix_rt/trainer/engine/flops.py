"""Floating-point operations of a training step: the numerator of MFU (model FLOPs utilisation).

The formula is that of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.parameters import names_on
from tunix_rt.trainer.engine.data import Batch

# Forward 2 operations per weight and token; backward 2 for the activations' gradient and 2 for the weight's own.
_TRAINED, _FROZEN = 6, 4
# Scores and mixed values take 2 operations each per pair and head dimension, once forward and twice backward.
_PER_PAIR = 12


@dataclass(frozen=True)
class StepFlops:
    """The operations of a step by their causes.

    ``per_token``, ``per_target``: operations per real token and per target token. ``windows``: (sliding window, number
    of layers), None: full attention. ``per_pair``: operations per layer and pair of attended tokens.
    """

    per_token: int
    per_target: int
    windows: tuple[tuple[int | None, int], ...]
    per_pair: int

    def of(self, batch: Batch) -> float:
        """Operations of one optimizer step on ``batch``, without padding and recomputation."""
        pairs = sum(layers * batch.token_pairs(window) for window, layers in self.windows)
        return float(self.per_token * batch.real_tokens + self.per_target * batch.target_tokens + self.per_pair * pairs)


def count_step_flops(config: ModelConfig, trained: Any, frozen: Any) -> StepFlops:
    """Operations of a step that trains the parameters ``trained`` and also reads ``frozen`` (both pytrees).

    6 N per token for trained weights of matrix products, 4 N for frozen ones, and 12 · heads · head_dim per layer and
    pair of tokens, causal or not, as in the paper. Stricter than the paper in two points: the output projection counts
    only for target tokens, and attention only within the examples of a packed row.
    """
    table = config.vocab_size * config.hidden_size
    trains_table = any("embedding" in names for names, _ in _leaves(trained))
    return StepFlops(
        per_token=_TRAINED * _matrix_weights(config, trained) + _FROZEN * _matrix_weights(config, frozen),
        per_target=(_TRAINED if trains_table else _FROZEN) * table,
        windows=tuple(Counter(layer_windows(config)).items()),
        per_pair=_PER_PAIR * config.num_attention_heads * config.head_dim,
    )


def layer_windows(config: ModelConfig) -> list[int | None]:
    """The sliding window of each layer; None: full attention."""
    return [config.window_of(layer_type) for layer_type in config.types_of_layers]


def _matrix_weights(config: ModelConfig, parameters: Any) -> int:
    """Number of weights in matrix products with a token: kernels of linear layers and factors of adapters; of experts,
    those of the ones that a token goes through."""
    total = 0
    for names, leaf in _leaves(parameters):
        size = int(np.prod(leaf.shape)) if names & {"kernel", "adapter"} else 0
        total += size * config.num_experts_per_tok // config.num_experts if "experts" in names else size
    return total


def _leaves(parameters: Any) -> list[tuple[set[str], Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    return [(set(names_on(path)), leaf) for path, leaf in leaves]
