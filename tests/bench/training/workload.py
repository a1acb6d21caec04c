"""What every engine of this benchmark is given: its arguments, and examples in an ``.npz`` that all of them read.

Knows no engine and nothing of this project, so that a peer in an environment of its own can import it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Workload:
    """``tokens`` and ``is_target`` of all examples end to end, i32 and bool; ``lengths`` tells where each ends."""

    tokens: np.ndarray
    is_target: np.ndarray
    lengths: np.ndarray

    def examples(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(tokens [n], is_target [n]) of every example."""
        ends = np.cumsum(self.lengths)
        return [
            (self.tokens[end - n : end], self.is_target[end - n : end])
            for end, n in zip(ends, self.lengths, strict=True)
        ]

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, is_target=self.is_target, lengths=self.lengths)

    @staticmethod
    def load(path: Path) -> Workload:
        with np.load(path) as file:
            return Workload(file["tokens"], file["is_target"], file["lengths"])


def arguments() -> argparse.ArgumentParser:
    """``WORKLOAD.npz MODEL_DIRECTORY --rows R --steps N``: rows of a batch, steps timed after the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    return parser
