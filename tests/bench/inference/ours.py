"""This project's engine inside a process: the scheduler and its slots, without a service around them.

    python ours.py WORKLOAD.npz MODEL_DIRECTORY [--slots 8] [--format float32]

Every request is in line at once. Prints the JSON object of `workload.report`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from workload import Request, Workload, arguments, report

from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.generation import Delta, Failure, GenerationRequest
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.model_pool import Servable
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.inferencer.text import Transcript
from tunix_rt.models.compilation_cache import enable_compilation_cache

FLOAT32 = "float32"


def shape_arguments(parser: argparse.ArgumentParser) -> None:
    """The service's own shape settings as options, and the format of the weights."""
    defaults = InferencerSettings.model_fields
    for name in ("slots", "context", "chunk", "steps"):
        parser.add_argument(f"--{name}", type=int, default=defaults[f"inferencer_{name}"].default)
    parser.add_argument("--format", default=FLOAT32)


def shape_of(given: argparse.Namespace) -> EngineShape:
    return EngineShape(given.slots, given.context, given.chunk, given.steps)


def named(weight_format: str) -> str:
    """A format of the command line as the contracts name it."""
    return "" if weight_format == FLOAT32 else weight_format


def servable(directory: Path, shape: EngineShape, weight_format: str = FLOAT32, cache: Path | None = None) -> Servable:
    """The model, warmed up."""
    if cache is not None:
        enable_compilation_cache(cache / "xla")
    loader = JaxModelLoader(shape, cache_dir=cache or Path(tempfile.gettempdir()))
    return loader.load(loader.find(directory.absolute().as_uri(), named(weight_format)))


def run_all(model: Servable, requests: Sequence[Request], *, at_once: int | None = None) -> list[list[int]]:
    """Greedy tokens of each request, ``at_once`` (None: all) in flight; end-of-sequence tokens end nothing."""
    scheduler = Scheduler(model.engine, queue_limit=len(requests))
    answers: list[list[int]] = [[] for _ in requests]
    done: set[int] = set()

    def sink_of(index: int) -> Callable[[Delta | Failure], None]:
        def sink(event: Delta | Failure) -> None:
            if isinstance(event, Failure):
                raise event.error
            answers[index] += [token.token_id for token in event.tokens]
            if event.finish is not None:
                done.add(index)

        return sink

    sent, most = 0, at_once or len(requests)
    while len(done) < len(requests):
        while sent < len(requests) and sent - len(done) < most:
            request = requests[sent]
            generation = GenerationRequest(tuple(request.prompt), max_new_tokens=request.wanted)
            scheduler.submit(generation, Transcript(model.tokenizer.detokenizer()), sink_of(sent))
            sent += 1
        scheduler.tick()
    return answers


def main() -> None:
    parser = arguments(__doc__)
    shape_arguments(parser)
    parser.add_argument("--cache", type=Path, help="where compiled programs are kept")
    given = parser.parse_args()
    requests = Workload.load(given.workload).requests()
    began = time.perf_counter()
    model = servable(given.model, shape_of(given), given.format, given.cache)
    started = time.perf_counter()
    answers = run_all(model, requests)
    report(requests, answers, time.perf_counter() - started, start_up=started - began)


if __name__ == "__main__":
    main()
