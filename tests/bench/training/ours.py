"""The bare loop of this engine over a workload: packed rows, the compiled step, nothing else.

    python ours.py WORKLOAD.npz MODEL_DIRECTORY --rows R --steps N [--packing]

Prints one JSON object: real tokens and seconds of the timed steps, losses, seconds to the first step.
"""

from __future__ import annotations

import json
import time

import jax
from sheets import LONGEST
from workload import Workload, arguments

from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.models.loading import load
from tunix_rt.models.references import resolve
from tunix_rt.trainer.engine.data import BatchStream, Example
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.step import build_step, initial_state


def main() -> None:
    parser = arguments()
    parser.add_argument("--packing", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    examples = [Example(tokens, mask) for tokens, mask in Workload.load(given.workload).examples()]
    model = load(resolve(given.model.absolute().as_uri(), cache_dir=given.workload.parent))
    hp = Hyperparameters(learning_rate=1e-4, max_steps=given.steps + 1)
    coefficients = coefficients_of(hp, given.steps + 1)
    graph, state, frozen = initial_state(model.decoder, coefficients)
    stream = BatchStream(examples, rows=given.rows, accumulation=1, length=LONGEST, packing=given.packing, seed=0)
    step = build_step(graph, "constant")
    tokens, losses, started = 0, [], 0.0
    for number in range(given.steps + 1):
        batch = next(stream)
        state, metrics = step(state, frozen, batch, coefficients)
        losses.append(float(jax.block_until_ready(metrics).loss))
        if number == 0:
            started = time.perf_counter()
        else:
            tokens += batch.real_tokens
    seconds = time.perf_counter() - started
    print(json.dumps({"tokens": tokens, "seconds": seconds, "losses": losses, "start_up": started - began}))


if __name__ == "__main__":
    main()
