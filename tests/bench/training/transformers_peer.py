"""Transformers' ``Trainer`` on PyTorch over a workload, with its own padding collator (DataCollatorForSeq2Seq).

    python transformers_peer.py WORKLOAD.npz MODEL_DIRECTORY --rows R --steps N

Prints the same JSON object as ``ours.py``. Knows nothing of this project but the workload's file.
"""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from workload import Workload, arguments


class Clock(TrainerCallback):
    """When each optimizer step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    given = arguments().parse_args()
    began = time.perf_counter()
    examples = Workload.load(given.workload).examples()
    data = [
        {"input_ids": tokens.tolist(), "labels": [t if m else -100 for t, m in zip(tokens.tolist(), mask, strict=True)]}
        for tokens, mask in examples
    ]
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    seen: list[int] = []

    class Counting(DataCollatorForSeq2Seq):  # type: ignore[misc]
        def __call__(self, features: Any, return_tensors: Any = None) -> Any:
            batch = super().__call__(features, return_tensors)
            seen.append(int(batch["attention_mask"].sum()))
            return batch

    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=directory,
                per_device_train_batch_size=given.rows,
                max_steps=given.steps + 1,
                learning_rate=1e-4,
                lr_scheduler_type="constant",
                logging_strategy="steps",
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=data,
            data_collator=Counting(tokenizer, padding=True),
            callbacks=[clock],
        )
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    print(
        json.dumps(
            {
                "tokens": sum(seen[1 : given.steps + 1]),
                "seconds": clock.ends[-1] - clock.ends[0],
                "losses": losses,
                "start_up": clock.ends[0] - began,
            }
        )
    )


if __name__ == "__main__":
    main()
