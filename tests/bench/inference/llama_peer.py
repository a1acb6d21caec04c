"""llama.cpp with continuous batching, through llama-cpp-python's low-level API, in an environment of its own.

    python llama_peer.py WORKLOAD.npz MODEL_DIRECTORY --file model-f32.gguf --slots 8

llama-cpp-python's own HTTP server answers one request at a time. This loop does what llama.cpp's C++ server does with
its slots: a batch has one token of every slot that decodes, and the prompts of those that were just filled; a slot
whose request is done is filled again at once. Nothing lies between it and ``llama_decode`` but these lines. Prints the
JSON object of `workload.report`. Knows nothing of this project but the workload's file.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import llama_cpp as llama
import numpy as np
from workload import Request, Workload, arguments, report

CACHE_TYPES = {"f16": llama.GGML_TYPE_F16, "f32": llama.GGML_TYPE_F32}
FLASH = {"auto": -1, "off": 0, "on": 1}


@dataclass
class Slot:
    """A request in work: ``pending`` are tokens that are not processed yet."""

    index: int
    request: Request
    pending: list[int]
    position: int = 0
    answer: list[int] = field(default_factory=list)


class Context:
    """A loaded model with ``slots`` sequences of ``context`` positions each."""

    def __init__(self, path: str, slots: int, context: int, given: Any) -> None:
        llama.llama_backend_init()
        logging.getLogger("llama-cpp-python").setLevel(logging.DEBUG if given.verbose else logging.ERROR)
        loading = llama.llama_model_default_params()
        loading.use_extra_bufts = given.repack
        self._model = llama.llama_model_load_from_file(path.encode(), loading)
        if not self._model:
            raise SystemExit(f"{path} could not be loaded")
        settings = llama.llama_context_default_params()
        settings.n_ctx = slots * context
        settings.n_batch, settings.n_ubatch = 2048, 512
        settings.n_seq_max = slots
        settings.n_threads = settings.n_threads_batch = given.threads
        settings.type_k = settings.type_v = CACHE_TYPES[given.cache_type]
        settings.flash_attn_type = FLASH[given.flash_attention]
        settings.kv_unified = given.unified
        self.batch_limit = 2048
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise SystemExit("no context could be made")
        self._memory = llama.llama_get_memory(self._context)
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(self.batch_limit, 0, 1)

    def run(self, slots: dict[int, Slot]) -> None:
        """One ``llama_decode``: every slot's pending tokens, as far as the batch has room; greedy tokens are added."""
        batch, count = self._batch, 0
        reads: list[tuple[Slot, int]] = []
        # Those that decode come first: they have one token each.
        for number, slot in sorted(slots.items(), key=lambda item: len(item[1].pending)):
            part = slot.pending[: self.batch_limit - count]
            for token in part:
                batch.token[count], batch.pos[count] = token, slot.position
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, number
                batch.logits[count] = 0
                slot.position += 1
                count += 1
            slot.pending = slot.pending[len(part) :]
            if part and not slot.pending:
                batch.logits[count - 1] = 1
                reads.append((slot, count - 1))
        batch.n_tokens = count
        status = llama.llama_decode(self._context, batch)
        if status:
            raise SystemExit(f"llama_decode returned {status}")
        for slot, at in reads:
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(self._context, at), (self._vocabulary,))
            chosen = int(logits.argmax())
            slot.answer.append(chosen)
            slot.pending = [chosen]

    def clear(self, number: int) -> None:
        llama.llama_memory_seq_rm(self._memory, number, -1, -1)


def run_all(context: Context, requests: list[Request], slots: int) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in requests]
    waiting = list(enumerate(requests))[::-1]
    running: dict[int, Slot] = {}
    while waiting or running:
        for number in range(slots):
            if number not in running and waiting:
                index, request = waiting.pop()
                running[number] = Slot(index, request, list(request.prompt))
        context.run(running)
        for number, slot in list(running.items()):
            if len(slot.answer) == slot.request.wanted:
                answers[slot.index] = slot.answer
                context.clear(number)
                del running[number]
    return answers


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--file", required=True)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache-type", choices=list(CACHE_TYPES), default="f16")
    parser.add_argument("--flash-attention", choices=list(FLASH), default="auto")
    parser.add_argument("--unified", action="store_true", help="one cache for all sequences")
    parser.add_argument("--no-repack", dest="repack", action="store_false", help="no AMX, weights as in the file")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    requests = Workload.load(given.workload).requests()
    began = time.perf_counter()
    context = Context(str(given.model / given.file), given.slots, given.context, given)
    run_all(context, [Request(request.prompt, 2) for request in requests[: given.slots]], given.slots)
    started = time.perf_counter()
    answers = run_all(context, requests, given.slots)
    seconds = time.perf_counter() - started
    system = llama.llama_print_system_info().decode()
    report(requests, answers, seconds, start_up=started - began, system=system)


if __name__ == "__main__":
    main()
