"""Scorecards and statistics as the JSON documents that rows hold; keys are the fields of evaluations.proto."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tunix_rt.quality.compare import PairedComparison
from tunix_rt.quality.scorecard import Scorecard

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def document_of(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass of `quality` as plain JSON. Raises ValueError for a number that is not finite."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(value), allow_nan=False))
    return document


def scorecard_document(card: Scorecard) -> dict[str, Any]:
    """The scorecard; its verdict is the name in lower case."""
    return document_of(card) | {"verdict": str(card.verdict).lower()}


def statistics_document(found: PairedComparison) -> dict[str, Any]:
    """The paired statistics alone, without slices and items."""
    return document_of(replace(found, slices=(), items=()))
