"""The model families: norms, activation, projections and position encoding that no config field selects.

- ``llama``: Touvron et al. 2023 (arXiv 2302.13971); Llama 3 (arXiv 2407.21783) and SmolLM2 are the same decoder.
- ``qwen2``: Yang et al. 2024 (arXiv 2407.10671): biases on query, key and value, optionally windows.
- ``qwen3``: Yang et al. 2025 (arXiv 2505.09388): queries and keys normalised per head, no biases.
- ``gemma3``: Gemma team 2025 (arXiv 2503.19786): sliding and full layers, pre- and post-norms, scaled embeddings.
- ``mistral``: Jiang et al. 2023 (arXiv 2310.06825): llama with one sliding window for every layer, or none.
- ``smollm3``: Bakouch et al. 2025 (Hugging Face, "SmolLM3"): llama whose every fourth layer has no rotary positions
  (Yang et al. 2025, arXiv 2501.18795).
- ``gemma2``: Gemma team 2024 (arXiv 2408.00118): alternating windows, pre- and post-norms, capped scores and logits.
- ``olmo2``: OLMo team 2024 (arXiv 2501.00656): norms after the sublayers alone, and over all heads of queries and keys.
- ``phi3``: Abdin et al. 2024 (arXiv 2404.14219): llama with packed projections, and rotary positions for a part of each
  head.
- ``qwen3_moe``: Yang et al. 2025 (arXiv 2505.09388): qwen3 with a mixture of experts in place of the MLP.
- ``gpt2``: Radford et al. 2019 ("Language models are unsupervised multitask learners"): learned positions, LayerNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

FamilyName = Literal[
    "llama", "qwen2", "qwen3", "gemma3", "mistral", "smollm3", "gemma2", "olmo2", "phi3", "qwen3_moe", "gpt2"
]
BiasedPart = Literal["qkv", "output", "mlp"]
Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class Family:
    """The fixed part of an architecture.

    ``norm``: ``rms``; ``rms_around_one`` stores ``scale - 1``; ``layer`` subtracts the mean and has a bias.
    ``biases``: linear layers that always have a bias. ``query_key_norms``: norms of queries and keys,
    of each head or over all of them. ``input_norms``, ``output_norms``: a norm before, and after, each sublayer.
    ``uniform_layers``: all layers have the same type.
    ``packed_projections``: one linear layer for query, key and value, and one for the gated MLP's two inputs.
    """

    norm: Literal["rms", "rms_around_one", "layer"] = "rms"
    activation: Activation = "silu"
    gated_mlp: bool = True
    biases: frozenset[BiasedPart] = frozenset()
    fused_attention: bool = False
    packed_projections: bool = False
    query_key_norms: Literal["head", "whole"] | None = None
    input_norms: bool = True
    output_norms: bool = False
    scaled_embedding: bool = False
    learned_positions: bool = False
    uniform_layers: bool = False


ARCHITECTURES: Mapping[FamilyName, Family] = MappingProxyType(
    {
        "llama": Family(),
        "qwen2": Family(biases=frozenset({"qkv"})),
        "qwen3": Family(query_key_norms="head"),
        "gemma3": Family(
            norm="rms_around_one",
            activation="gelu_tanh",
            query_key_norms="head",
            output_norms=True,
            scaled_embedding=True,
        ),
        "mistral": Family(uniform_layers=True),
        "smollm3": Family(),
        "gemma2": Family(norm="rms_around_one", activation="gelu_tanh", output_norms=True, scaled_embedding=True),
        "olmo2": Family(query_key_norms="whole", input_norms=False, output_norms=True),
        "phi3": Family(packed_projections=True, uniform_layers=True),
        "qwen3_moe": Family(query_key_norms="head", uniform_layers=True),
        "gpt2": Family(
            norm="layer",
            activation="gelu_tanh",
            gated_mlp=False,
            biases=frozenset({"qkv", "output", "mlp"}),
            fused_attention=True,
            learned_positions=True,
        ),
    }
)
