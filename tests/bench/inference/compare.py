"""Serving speed beside Transformers' generate and llama.cpp, in one run on one machine.

    make bench-infer                      both models, float32
    python compare.py --quick             the small model and few requests, in a minute
    python compare.py --models small --formats float32 int8-v1 --rounds 3 --json out.json

64 ragged prompts, 32 to 128 new tokens each, greedy; end-of-sequence tokens are ignored everywhere. Engines take turns
in processes of their own; the figure is each engine's best round in new tokens per second, from the first request to
the last answer. Transformers has every static batch size, prompts as they come and by length, once; the best of them
takes part in the other rounds. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf_export import FILES
from models import MODELS
from ours import FLOAT32
from prompts import ragged
from rich.console import Console
from rich.table import Table
from workload import Workload

HERE = Path(__file__).parent
LLAMA_ENVIRONMENT = "TUNIX_RT_BENCH_LLAMA_PYTHON"
# llama.cpp's kind of file for each format of ours.
LLAMA_KINDS = {FLOAT32: "f32", "int8-v1": "q8_0"}
BATCHES = (1, 4, 8, 16, 32)


@dataclass
class Engine:
    """A command line and what it printed, round by round."""

    name: str
    weight_format: str
    command: list[str]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    # Where several ways of running a peer are tried, those that were not the fastest.
    tried: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """New tokens per second of the best round."""
        return max((found["tokens"] / found["seconds"] for found in self.rounds), default=0.0)


def run(command: Sequence[str], workload: Path, model: Path) -> dict[str, Any]:
    """What the engine printed. Raises `CalledProcessError` with the end of its output."""
    script, *options = command[1:]
    arguments = [command[0], script, str(workload), str(model), *options]
    defaults = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=defaults | os.environ, cwd=HERE, check=False)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, arguments)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def engines_of(given: argparse.Namespace, python: str | None, cache: Path) -> list[Engine]:
    """Everything that takes turns but Transformers, whose best setting is found first."""
    engines = []
    for weight_format in given.formats:
        own = ["--slots", str(given.slots), "--format", weight_format, "--cache", str(cache)]
        inside = [sys.executable, str(HERE / "ours.py"), *own]
        over_grpc = [sys.executable, str(HERE / "streaming.py"), *own]
        engines.append(Engine(f"tunix-rt, {given.slots} slots, in process", weight_format, inside))
        engines.append(Engine(f"tunix-rt, {given.slots} slots, gRPC streaming", weight_format, over_grpc))
        if python:
            file = FILES[LLAMA_KINDS[weight_format]]
            peer = [python, str(HERE / "llama_peer.py"), "--file", file, "--slots", str(given.slots)]
            name = f"llama.cpp {LLAMA_KINDS[weight_format]}, {given.slots} slots"
            engines.append(Engine(name, weight_format, peer))
    return engines


def best_transformers(batches: Sequence[int], workload: Path, model: Path, count: int) -> Engine:
    """Transformers at the batch size and order that were fastest over the whole workload."""
    tried: dict[str, Engine] = {}
    for batch in [batch for batch in batches if batch <= count] or [count]:
        for order in ("given",) if batch == 1 else ("given", "prompt"):
            name = f"static batches of {batch}" + (", by prompt length" if order == "prompt" else "")
            command = [sys.executable, str(HERE / "transformers_peer.py"), "--batch", str(batch), "--order", order]
            tried[name] = Engine(f"transformers generate, {name}", FLOAT32, command)
            tried[name].rounds.append(run(command, workload, model))
            _tell(tried[name])
    best = max(tried.values(), key=lambda engine: engine.rate)
    best.tried = {name: engine.rate for name, engine in tried.items()}
    return best


def agreement(ours: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Share of tokens before an answer's first difference: what follows one has another context."""
    alike = sum(
        next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b), len(mine))
        for mine, theirs in zip(ours, other, strict=True)
    )
    return alike / sum(map(len, ours))


def _tell(engine: Engine) -> None:
    last = engine.rounds[-1]
    rate = last["tokens"] / last["seconds"]
    print(f"{engine.weight_format} {engine.name}: {rate:.1f} tokens/s", file=sys.stderr, flush=True)


def measure(name: str, given: argparse.Namespace, python: str | None, directory: Path) -> dict[str, Any]:
    """Every engine's rounds with one model, and what the running service gains by slots and prefixes."""
    exported = MODELS[name].export(directory / name, gguf=python is not None)
    requests = ragged(exported.tokenizer, given.requests)
    lengths = sorted(len(request.prompt) for request in requests)
    quartiles = [lengths[round(q * (len(lengths) - 1))] for q in (0, 0.25, 0.5, 0.75, 1)]
    print(f"{name}: prompt lengths (min, quartiles, max) {quartiles}", file=sys.stderr, flush=True)
    path = directory / f"{name}.npz"
    Workload.of(requests).save(path)
    cache = directory / "cache"
    engines = engines_of(given, python, cache)
    batches = (8,) if given.quick else given.batches
    transformers = best_transformers(batches, path, exported.directory, len(requests)) if given.transformers else None
    for number in range(given.rounds):
        for engine in engines:
            engine.rounds.append(run(engine.command, path, exported.directory))
            _tell(engine)
        if transformers is not None and number:  # its first round was the search for the best setting
            transformers.rounds.append(run(transformers.command, path, exported.directory))
            _tell(transformers)
    service = {}
    for weight_format in given.formats:
        command = [sys.executable, str(HERE / "latency.py"), "--slots", str(given.slots), "--format", weight_format]
        command += ["--cache", str(cache), *(["--requests", "8", "--pairs", "2"] if given.quick else [])]
        service[weight_format] = run(command, path, exported.directory)
    return {"engines": engines + ([transformers] if transformers else []), "service": service, "prompts": quartiles}


def throughput_table(results: dict[str, dict[str, Any]]) -> Table:
    """Tokens per second, and how many times as many ours has in process, format by format."""
    table = Table(title=f"New tokens/s, {os.cpu_count()} cores, {platform.processor() or 'CPU'}")
    for column in ("model", "weights", "engine", "tokens/s", "ours / it", "same tokens", "to first request"):
        table.add_column(column, justify="left" if column in ("model", "weights", "engine") else "right")
    for name, found in results.items():
        ours: dict[str, Engine] = {}
        for engine in found["engines"]:
            base = ours.setdefault(engine.weight_format, engine)
            best = max(engine.rounds, key=lambda round_: round_["tokens"] / round_["seconds"])
            same = agreement(base.rounds[0]["answers"], best["answers"])
            cells = (
                f"{engine.rate:.1f}",
                f"{base.rate / engine.rate:.2f}×",
                f"{same:.0%}",
                f"{best['start_up']:.0f} s",
            )
            table.add_row(name, engine.weight_format, engine.name, *cells)
    return table


def service_table(results: dict[str, dict[str, Any]], slots: int) -> Table:
    """What slots and cached prefixes gain in the running service."""
    table = Table(title="The running service over gRPC")
    for column in ("model", "weights", "what", "alone or cold", "together or cached", "ratio"):
        table.add_column(column, justify="left" if column in ("model", "weights", "what") else "right")
    for name, found in results.items():
        for weight_format, service in found["service"].items():
            alone, together = (service["tokens"] / service[key] for key in ("one_after_another", "at_once"))
            rates = (f"{alone:.1f} tokens/s", f"{together:.1f} tokens/s", f"{together / alone:.2f}×")
            table.add_row(name, weight_format, f"{slots} streams at once", *rates)
            cold, cached = service["first_token_cold"], service["first_token_cached"]
            times = (f"{cold * 1e3:.0f} ms", f"{cached * 1e3:.0f} ms", f"{cached / cold:.2f}×")
            table.add_row(name, weight_format, "first token behind 1000", *times)
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="the small model, 12 requests, one round")
    arguments.add_argument("--models", nargs="+", choices=list(MODELS))
    arguments.add_argument("--formats", nargs="+", choices=list(LLAMA_KINDS), default=[FLOAT32])
    arguments.add_argument("--slots", type=int, default=8)
    arguments.add_argument("--requests", type=int)
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="of Transformers")
    arguments.add_argument("--no-transformers", dest="transformers", action="store_false")
    arguments.add_argument("--json", type=Path, help="write every round here too")
    given = arguments.parse_args()
    given.models = given.models or (["small"] if given.quick else list(MODELS))
    given.requests = given.requests or (12 if given.quick else 64)
    given.rounds = given.rounds or (1 if given.quick else 2)
    python = os.environ.get(LLAMA_ENVIRONMENT)
    if python is None:
        print(f"{LLAMA_ENVIRONMENT} names no interpreter with llama-cpp-python: it is left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        results = {name: measure(name, given, python, Path(directory)) for name in given.models}
    console = Console(width=130)
    console.print(throughput_table(results))
    console.print(service_table(results, given.slots))
    if given.json:
        for engine in (engine for found in results.values() for engine in found["engines"]):
            for round_ in engine.rounds:
                del round_["answers"]
        record = {
            name: {**found, "engines": [vars(engine) for engine in found["engines"]]} for name, found in results.items()
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
