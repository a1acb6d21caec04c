"""Transformers' ``generate`` on PyTorch: greedy, padded on the left, static batches.

    python transformers_peer.py WORKLOAD.npz MODEL_DIRECTORY --batch 8 [--order prompt]

A batch runs until the request that wants most of it is done; only tokens that were wanted count. Prints the JSON
object of `workload.report`. Knows nothing of this project but the workload's file.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from workload import Request, Workload, arguments, report

ORDERS = ("given", "prompt")


def generate(model: Any, batch: list[Request]) -> list[list[int]]:
    """Answers of one batch."""
    longest = max(len(request.prompt) for request in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, request in enumerate(batch):
        ids[row, longest - len(request.prompt) :] = torch.tensor(request.prompt)
        mask[row, longest - len(request.prompt) :] = 1
    most = max(request.wanted for request in batch)
    with torch.inference_mode():
        found = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=False)
    return [row[: request.wanted] for row, request in zip(found[:, longest:].tolist(), batch, strict=True)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--order", choices=ORDERS, default="given", help="as given, or by the prompt's length")
    given = parser.parse_args()
    requests = Workload.load(given.workload).requests()
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    # End-of-sequence tokens end nothing; every row has as many as its batch wants.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    generate(model, [Request(request.prompt, 2) for request in requests[: given.batch]])
    started = time.perf_counter()
    order = list(range(len(requests)))
    if given.order == "prompt":
        order.sort(key=lambda index: len(requests[index].prompt))
    answers: dict[int, list[int]] = {}
    for first in range(0, len(order), given.batch):
        chosen = order[first : first + given.batch]
        answers |= zip(chosen, generate(model, [requests[index] for index in chosen]), strict=True)
    seconds = time.perf_counter() - started
    report(requests, [answers[index] for index in range(len(requests))], seconds, start_up=started - began)


if __name__ == "__main__":
    main()
