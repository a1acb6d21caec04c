"""Mutates a good model at random and loads it into a real inferencer: ``python -m tests.security.fuzz_models``.

Prints one JSON object of counts; exits with 1 when an answer was not a named error, came late, took too much memory, or
left the service unable to serve. A mutation is reproduced by its seed, which is printed with it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from tests.security.hostile_models import good_gguf, good_model
from tests.security.inferencer_process import MORE_BYTES, NAMED, SECONDS, Inferencer, running_inferencer

_JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
_BYTES = (*_JSON, "model.safetensors", "model.gguf")
_NASTY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, -(2**63), 1e308, float("nan"), float("inf"), 0.5, "", "a" * 5_000,
    "\ud800", "../../etc/passwd", "(a+)+$", "(?:a{0,9999}){0,9999}", "{{ 9 ** (9 ** 9) }}", "{% for %}", "\x00",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", [], {}, [[]] * 2_000,
    {"type": "Sequence", "decoders": []}, {"type": "Replace", "pattern": {"Regex": "(a|a)*b"}, "content": "aaaaaaaaa"},
    list(range(5_000)), {str(number): number for number in range(2_000)},
]  # fmt: skip


def mutate(directory: Path, chance: random.Random) -> str:
    """Change one file of the model in ``directory``; what was done."""
    if chance.random() < 0.55:
        name = chance.choice(_JSON)
        done = [_change_json(directory / name, chance) for _ in range(chance.choice((1, 1, 2, 5)))]
        return f"{name}: {'; '.join(done)}"
    name = chance.choice(_BYTES)
    return f"{name}: {_change_bytes(directory / name, chance)}"


def _change_json(path: Path, chance: random.Random) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    places = _places(document)
    if not places:
        return "nothing"
    # Nodes of a vocabulary are many, and one of them is like another.
    deep, shallow = [p for p in places if len(p) > 2], [p for p in places if len(p) <= 2]
    place = chance.choice(shallow if not deep or chance.random() < 0.7 else deep)
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    kind = chance.choice(("nasty", "nasty", "nasty", "delete", "swap", "add"))
    if kind == "delete":
        del parent[place[-1]]
    elif kind == "swap":
        other = document
        for key in chance.choice(places):
            other = other[key]
        parent[place[-1]] = json.loads(json.dumps(other))
    elif kind == "add" and isinstance(parent, dict):
        parent[chance.choice(("auto_map", "normalizer", "decoder", "pre_tokenizer", "x"))] = chance.choice(_NASTY)
    else:
        parent[place[-1]] = chance.choice(_NASTY)
    path.write_text(json.dumps(document), encoding="utf-8")
    return f"{kind} {'.'.join(map(str, place))}"


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    found = []
    for key, value in items:
        found.append((*path, key))
        if len(path) < 4:
            found += _places(value, (*path, key))
    return found


def _change_bytes(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    kind = chance.choice(("flip", "flip", "cut", "insert", "number", "repeat"))
    at = chance.randrange(max(1, min(len(data), chance.choice((16, 256, len(data))))))
    if kind == "flip":
        for _ in range(chance.choice((1, 4, 64))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.choice((1, 8, 1_000)))
    elif kind == "number":
        data[at : at + 8] = chance.choice((0, 1, 2**31, 2**50, 2**63, 2**64 - 1)).to_bytes(8, "little")
    else:
        data[at:at] = data[at : at + 64] * chance.choice((2, 1_000, 20_000))
    path.write_bytes(data)
    return f"{kind} at {at}"


def attempt(inferencer: Inferencer, directory: Path, is_gguf: bool) -> str:
    """Load and use the model; the status, or "OK"."""
    reference = f"gguf://{directory}/model.gguf" if is_gguf else directory.as_uri()
    try:
        loaded = inferencer.load(reference)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"[:200]
    try:
        inferencer.chat(loaded.handle, "a" * 60 + "b")
    except grpc.RpcError as error:
        return f"loaded, {error.code().name}: {error.details()}"[:200]
    if loaded.handle != inferencer.good:
        try:
            inferencer.unload(loaded.handle)
        except grpc.RpcError as error:
            return f"unload, {error.code().name}: {error.details()}"[:200]
    return "OK"


def _errors_logged(log: Path) -> dict[str, int]:
    """How often each unexpected error is in the service's log."""
    found: Counter[str] = Counter()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{") and (record := json.loads(line)).get("level") == "error":
            last = str(record.get("exception", "")).strip().rpartition("\n")[2]
            found[f"{record['event']}: {last}"[:300]] += 1
    return dict(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    problems: list[str] = []
    slowest, most = 0.0, 0
    with tempfile.TemporaryDirectory() as root:
        good = Path(root) / "good"
        good_model(good)
        good_gguf(good / "model.gguf")
        with running_inferencer(Path(root) / "home", good) as inferencer:
            allowed = {code.name for code in NAMED}
            baseline, end, seed = inferencer.resident_bytes, time.monotonic() + given.seconds, given.seed
            while time.monotonic() < end:
                directory = Path(root) / "mutated"
                shutil.copytree(good, directory)
                what = mutate(directory, random.Random(seed))
                started = time.monotonic()
                status = attempt(inferencer, directory, what.startswith("model.gguf"))
                took = time.monotonic() - started
                counts[status.partition(":")[0]] += 1
                slowest, most = max(slowest, took), max(most, inferencer.resident_bytes - baseline)
                code = status.removeprefix("loaded, ").partition(":")[0]
                if code not in {*allowed, "OK"} or took > SECONDS or not inferencer.serving():
                    problems.append(f"seed {seed}: {status} after {took:.1f} s: {what}"[:500])
                    print(problems[-1], file=sys.stderr, flush=True)
                shutil.rmtree(directory)
                seed += 1
            logged = _errors_logged(Path(root) / "home" / "log")
            healthy = bool(inferencer.chat(inferencer.load(good.as_uri()).handle))
    report = {
        "mutations": sum(counts.values()),
        "first_seed": given.seed,
        "answers": dict(counts),
        "slowest_seconds": round(slowest, 2),
        "most_more_mib": most >> 20,
        "good_model_answers_afterwards": healthy,
        "errors_logged": logged,
        "problems": problems,
    }
    print(json.dumps(report, indent=2))
    return 1 if problems or not healthy or most > MORE_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
