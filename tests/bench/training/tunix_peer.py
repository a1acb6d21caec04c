"""google-tunix's PeftTrainer (full fine-tuning of its own llama) over a workload, in an environment of its own.

    OTHER_ENVIRONMENT/bin/python tunix_peer.py WORKLOAD.npz MODEL_DIRECTORY --rows R --steps N

Rows are padded to the workload's longest example: its step is compiled per shape, and it has no packing. Weights are
random: its llama cannot hold this model's (it ignores ``rope_theta``), and time does not depend on them. Prints the
same JSON object as ``ours.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import optax
from flax import nnx
from tunix.models.llama3 import model as llama3
from tunix.sft import utils
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput
from workload import Workload, arguments


def main() -> None:
    given = arguments().parse_args()
    began = time.perf_counter()
    config = json.loads((given.model / "config.json").read_text())
    examples = [tokens for tokens, _ in Workload.load(given.workload).examples()]
    longest = max(map(len, examples))
    order = np.random.default_rng(0).permutation(len(examples))
    real: list[int] = []

    def batches() -> Iterator[TrainingInput]:
        for number in range(given.steps + 1):
            chosen = [examples[order[(number * given.rows + row) % len(examples)]] for row in range(given.rows)]
            tokens = np.zeros((given.rows, longest), np.int32)
            mask = np.zeros((given.rows, longest), np.bool_)
            for row, example in enumerate(chosen):
                tokens[row, : len(example)] = example
                mask[row, : len(example)] = True
            real.append(int(mask.sum()))
            yield TrainingInput(input_tokens=tokens, input_mask=mask)

    model = llama3.Llama3(
        llama3.ModelConfig(
            num_layers=config["num_hidden_layers"],
            vocab_size=config["vocab_size"],
            embed_dim=config["hidden_size"],
            hidden_dim=config["intermediate_size"],
            num_heads=config["num_attention_heads"],
            head_dim=config["head_dim"],
            num_kv_heads=config["num_key_value_heads"],
            rope_theta=10_000,
            norm_eps=config["rms_norm_eps"],
            weight_tying=config["tie_word_embeddings"],
        ),
        rngs=nnx.Rngs(0),
    )
    settings = TrainingConfig(eval_every_n_steps=10**9, max_steps=given.steps + 1)
    trainer = PeftTrainer(model, optax.adamw(1e-4), settings).with_gen_model_input_fn(
        lambda batch: {
            "input_tokens": batch.input_tokens,
            "input_mask": batch.input_mask,
            "positions": utils.build_positions_from_mask(batch.input_mask),
            "attention_mask": utils.make_causal_attn_mask(batch.input_mask),
        }
    )
    ended: list[float] = []
    losses: list[float] = []

    # Every step is waited for and timed, as in the other engines' loops.
    def note(loss: Any) -> None:
        losses.append(float(loss))
        ended.append(time.perf_counter())

    trainer._throttler.add_computation = note
    trainer.train(batches())
    seconds = ended[-1] - ended[0]
    print(
        json.dumps(
            {"tokens": sum(real[1 : len(ended)]), "seconds": seconds, "losses": losses, "start_up": ended[0] - began}
        )
    )


if __name__ == "__main__":
    main()
