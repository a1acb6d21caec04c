"""Outcomes of one item of an evaluation."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """An item's outcome; an answer that cannot be parsed is SCORED, as wrong, because that is the model's doing."""

    SCORED = "SCORED"
    SKIPPED = "SKIPPED"
    """The item has no usable reference."""
    ERRORED = "ERRORED"
    """Infrastructure failed: neither a wrong answer nor a right one."""
