"""What every engine of this benchmark is given, its arguments, and what it prints.

Knows no engine and nothing of this project, so that a peer in an environment of its own can import it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Request:
    """Token ids of a prompt, and how many tokens are wanted: exactly so many, whatever they are."""

    prompt: list[int]
    wanted: int


@dataclass(frozen=True)
class Workload:
    """``tokens`` of all prompts end to end, i32; ``lengths`` tells where each ends; ``wanted`` new tokens of each."""

    tokens: np.ndarray
    lengths: np.ndarray
    wanted: np.ndarray

    def requests(self) -> list[Request]:
        ends = np.cumsum(self.lengths)
        return [
            Request(self.tokens[end - length : end].tolist(), int(wanted))
            for end, length, wanted in zip(ends, self.lengths, self.wanted, strict=True)
        ]

    @staticmethod
    def of(requests: Sequence[Request]) -> Workload:
        return Workload(
            np.concatenate([np.asarray(request.prompt, np.int32) for request in requests]),
            np.asarray([len(request.prompt) for request in requests]),
            np.asarray([request.wanted for request in requests]),
        )

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, lengths=self.lengths, wanted=self.wanted)

    @staticmethod
    def load(path: Path) -> Workload:
        with np.load(path) as file:
            return Workload(file["tokens"], file["lengths"], file["wanted"])


def arguments(description: str | None) -> argparse.ArgumentParser:
    """``WORKLOAD.npz MODEL_DIRECTORY``, which every engine takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("model", type=Path)
    return parser


def report(requests: Sequence[Request], answers: Sequence[Sequence[int]], seconds: float, **more: Any) -> None:
    """Print an engine's one JSON object. Raises `SystemExit` unless every answer is as long as was asked for."""
    short = [i for i, (r, answer) in enumerate(zip(requests, answers, strict=True)) if len(answer) != r.wanted]
    if short:
        raise SystemExit(f"answers {short} do not have the length that was asked for")
    tokens = sum(request.wanted for request in requests)
    print(json.dumps({"tokens": tokens, "seconds": seconds, "answers": [list(answer) for answer in answers], **more}))
