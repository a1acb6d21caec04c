"""Training through the platform beside the bare loop: the same model, rows and data, one after the other.

    python platform_overhead.py [--steps 60] [--rows 4] [--json out.json]

A local platform (NATS, registry, trainer and the rest) trains ``preset://small`` on arith-v1 with packing, a metric
row every step and a checkpoint every 20. Its rate is that between its first and its last metric row, checkpoints
included; the bare loop (``ours.py``) takes as many steps from the exported model. Both count real tokens. They take
turns, and the medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from compare import HERE, one_round
from sheets import LONGEST
from workload import Workload

from tunix_rt.client import JobState, Run, TunixClient
from tunix_rt.local import LocalPlatform
from tunix_rt.models.tokenizer import Tokenizer, render_example
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import parse_traces


def train(client: TunixClient, dataset_id: str, rows: int, steps: int, seed: int) -> Run:
    """One run through the platform, to its end."""
    run = client.runs.create(
        base_model="preset://small",
        dataset_id=dataset_id,
        hyperparameters={
            "per_device_batch_size": rows,
            "max_seq_length": LONGEST,
            "max_steps": steps + 1,
            "packing": True,
            "save_steps": 20,
            "seed": seed,
        },
    )
    ended = client.runs.wait(run.id, timeout_seconds=3600)
    if ended.state is not JobState.SUCCEEDED:
        raise SystemExit(f"the run ended {ended.state}: {ended.message}")
    return ended


def rate(client: TunixClient, run_id: str) -> float:
    """Real tokens a second between the first metric row and the last."""
    rows: dict[int, dict[str, Any]] = {}
    for point in client.runs.metrics(run_id, keys=["tokens_per_second", "step_time"]):
        row = rows.setdefault(point.step, {})
        row[point.key] = point.value
        row["time"] = point.time.timestamp()
    first, last = min(rows), max(rows)
    tokens = sum(row["tokens_per_second"] * row["step_time"] for step, row in rows.items() if step != first)
    return float(tokens / (rows[last]["time"] - rows[first]["time"]))


def workload(client: TunixClient, dataset_id: str, model: Path) -> Workload:
    """The dataset as the run tokenised it."""
    tokenizer = Tokenizer.from_directory(model, eos_ids=())
    text = b"".join(client.datasets.export(dataset_id)).decode()
    rendered = [render_example(tokenizer, t.prompt, render_completion(t)) for t in parse_traces(text.split("\n"))]
    return Workload(
        np.concatenate([np.asarray(ids, np.int32) for ids, _ in rendered]),
        np.concatenate([np.asarray(mask, np.bool_) for _, mask in rendered]),
        np.asarray([len(ids) for ids, _ in rendered]),
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--rows", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    through, bare = [], []
    with (
        tempfile.TemporaryDirectory() as name,
        LocalPlatform(Path(name), ports="free") as platform,
        TunixClient(home=platform.home) as client,
    ):
        dataset = client.datasets.build("arith-v1", size=3000, seed=0)
        for number in range(given.rounds):
            run = train(client, dataset.id, given.rows, given.steps, number)
            through.append(rate(client, run.id))
            model = Path(client.models.get(run.model_id).artifact.uri.removeprefix("file://"))
            path = Path(name) / "workload.npz"
            workload(client, dataset.id, model).save(path)
            command = [sys.executable, str(HERE / "ours.py")]
            found = one_round(command, path, model, given.rows, given.steps, "--packing")
            bare.append(found["tokens"] / found["seconds"])
            print(f"platform {through[-1]:.0f}, bare loop {bare[-1]:.0f} tokens/s", file=sys.stderr, flush=True)
    ratio = statistics.median(through) / statistics.median(bare)
    print(f"through the platform: {ratio:.3f}× of the bare loop's tokens/s")
    if given.json:
        given.json.write_text(json.dumps({"platform": through, "bare": bare, "ratio": ratio}) + "\n")


if __name__ == "__main__":
    main()
