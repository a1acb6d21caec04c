"""The roofline of serving on this machine: what decoding and prefill reach of its bandwidth and its matmul peak.

    python roofline.py [--models small] [--slots 1 8 32] [--formats float32] [--svg docs/inference-roofline.svg]

Bandwidth is measured beyond all caches and at the size that a decode step reads, which for a small model may be a
cache's; the bound takes the latter. Steps and chunks are timed through the engine, everything included but the
scheduler. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bounds import Work, decode_step, prefill_chunk
from machine import copy_bandwidth, matmul_peak, read_bandwidth
from models import MODELS
from ours import FLOAT32, servable
from roofline_svg import draw

from tunix_rt.inferencer.engine.interface import Engine, SlotSpec
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.generation import Sampling

_CONTEXT, _CHUNK, _STEPS = 1024, 64, 8


@dataclass(frozen=True)
class Point:
    """One measured kind of work: ``share`` is the bound's time over the measured ``seconds``."""

    model: str
    weight_format: str
    what: str
    intensity: float
    rate: float  # operations per second
    tokens_per_second: float
    bandwidth: float  # bytes per second at this work's size
    bound: float  # tokens per second
    share: float


@dataclass(frozen=True)
class Timed:
    """Seconds of a decode step and of a prefill chunk, and the average number of cached positions while decoding."""

    step: float
    chunk: float
    positions: float


def timed(engine: Engine, vocabulary: int, *, prompt: int, tokens: int, rounds: int = 3) -> Timed:
    """Best of ``rounds`` with every slot filled: prompts of ``prompt`` random tokens, ``tokens`` new ones each."""
    source = np.random.default_rng(0)
    step = chunk = float("inf")
    chunks = engine.slots * -(-(prompt - 1) // _CHUNK)
    for _ in range(rounds):
        began = time.perf_counter()
        for slot in range(engine.slots):
            ids = tuple(int(token) for token in source.integers(0, vocabulary, prompt))
            engine.open(slot, SlotSpec(ids, Sampling(), tokens + _STEPS, frozenset()))
            while not engine.prefill(slot):
                pass
        engine.decode(leave_early=False)  # waits for the prefill, too
        decoding = time.perf_counter()
        produced = 0
        while produced < tokens:
            produced += len(engine.decode(leave_early=False)[0].tokens)
        ended = time.perf_counter()
        for slot in range(engine.slots):
            engine.close(slot)
        one = (ended - decoding) / produced
        step = min(step, one)
        chunk = min(chunk, (decoding - began - _STEPS * one) / chunks)
    return Timed(step, chunk, prompt + _STEPS + tokens / 2)


def points_of(name: str, directory: Path, slots: list[int], formats: list[str], peaks: dict[str, float]) -> list[Point]:
    """Every kind of work of one model."""
    exported = MODELS[name].export(directory / name, gguf=False)
    found = []

    def add(what: str, weight_format: str, work: Work, seconds: float, tokens: int) -> None:
        bandwidth = read_bandwidth(int(work.bytes))
        bound = work.seconds(bandwidth, peaks[weight_format])
        rate, speed = work.operations / seconds, tokens / seconds
        point = Point(
            name, weight_format, what, work.intensity, rate, speed, bandwidth, tokens / bound, bound / seconds
        )
        print(
            f"{name} {weight_format} {what}: {speed:.0f} tokens/s of {point.bound:.0f} ({point.share:.0%}); "
            f"{seconds * 1e3:.2f} ms, {work.bytes / 2**20:.0f} MiB at {bandwidth / 1e9:.1f} GB/s",
            flush=True,
        )
        found.append(point)

    for weight_format in formats:
        for count in slots:
            shape = EngineShape(count, _CONTEXT, _CHUNK, _STEPS)
            engine = servable(exported.directory, shape, weight_format, directory).engine
            measured = timed(engine, exported.config.vocab_size, prompt=2 * _CHUNK + 1, tokens=64)
            work = decode_step(exported.config, count, measured.positions, weight_format)
            add(f"decode, {count} slots" if count > 1 else "decode, 1 slot", weight_format, work, measured.step, count)
            if count == max(slots):
                work = prefill_chunk(exported.config, _CHUNK, _CHUNK / 2, weight_format)
                add(f"prefill, {_CHUNK} tokens", weight_format, work, measured.chunk, _CHUNK)
            del engine
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments.add_argument("--slots", nargs="+", type=int, default=[1, 8, 32])
    arguments.add_argument("--formats", nargs="+", default=[FLOAT32])
    arguments.add_argument("--svg", type=Path)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    memory, copied = read_bandwidth(), copy_bandwidth()
    peaks = {weight_format: matmul_peak(weight_format) for weight_format in given.formats}
    print(f"memory: {memory / 1e9:.1f} GB/s read, {copied / 1e9:.1f} GB/s copied (both ways counted)")
    print("matmul peak: " + ", ".join(f"{name} {peak / 1e9:.0f} G/s" for name, peak in peaks.items()))
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in given.models:
            points += points_of(name, Path(directory), given.slots, given.formats, peaks)
    if given.svg:
        draw(given.svg, points, memory, peaks)
    if given.json:
        record = {"read": memory, "copy": copied, "peaks": peaks, "points": [asdict(point) for point in points]}
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
