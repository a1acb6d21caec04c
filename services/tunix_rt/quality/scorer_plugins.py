"""Finds and checks third-party scorers: installed entry points of the group ``tunix_rt.scorers``."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.scorers import BUILT_IN, Range, Scorer, ScorerSet

GROUP = "tunix_rt.scorers"
_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_VERSION_CHARS = 64
# Names with another meaning in lists, filters and sort orders of scores.
_RESERVED = frozenset(["primary_score", "score", "coverage"])
_BUILT_IN_METRICS = frozenset(metric for scorer in BUILT_IN for metric in scorer.metrics)


@lru_cache(maxsize=1)
def installed_scorers() -> ScorerSet:
    """The built-in scorers and every installed third-party one.

    Raises `FailedPrecondition` naming every unusable entry point and why. Call it when a process starts: the platform
    refuses results of services with different scorer sets.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    problems: list[str] = []
    scorers: list[Scorer] = []
    for entry in found:
        try:
            scorers.append(_loaded(entry))
        except Exception as error:
            # Any error while importing a third-party module means that the scorer is unusable.
            problems.append(f"{_described(entry)}: {error if isinstance(error, _Unusable) else repr(error)}")
    names = Counter(scorer.name for scorer in scorers)
    problems += [f"{count} scorers are named {name!r}" for name, count in sorted(names.items()) if count > 1]
    if problems:
        raise FailedPrecondition("\n  ".join(["third-party scorers are unusable; fix or uninstall them:", *problems]))
    return ScorerSet(tuple(sorted(scorers, key=lambda scorer: scorer.name)))


class _Unusable(Exception):
    """The reason why a loaded scorer is unusable."""


def _loaded(entry: EntryPoint) -> Scorer:
    scorer = entry.load()
    if not isinstance(scorer, Scorer):
        raise _Unusable(f"is a {type(scorer).__name__}, not a tunix_rt.quality.scorers.Scorer")
    if not (isinstance(scorer.name, str) and _NAME.fullmatch(scorer.name)):
        raise _Unusable(f"its name {scorer.name!r} must match {_NAME.pattern}")
    built_in = scorer.name in _BUILT_IN_METRICS or scorer.name.split(".")[0] in {s.name for s in BUILT_IN}
    if built_in or scorer.name in _RESERVED:
        raise _Unusable(f"its name {scorer.name!r} belongs to a built-in metric")
    if not (isinstance(scorer.version, str) and 0 < len(scorer.version) <= _VERSION_CHARS):
        raise _Unusable(f"its version {scorer.version!r} must be text of 1 to {_VERSION_CHARS} characters")
    if not isinstance(scorer.range, Range):
        raise _Unusable(f"its range {scorer.range!r} must be a tunix_rt.quality.scorers.Range")
    if not callable(scorer.score):
        raise _Unusable("its score is not a function")
    return scorer


def _described(entry: EntryPoint) -> str:
    distribution = f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
    return f"{entry.name} = {entry.value}{distribution}"
