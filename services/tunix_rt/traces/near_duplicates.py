"""Near-duplicate prompts: MinHash sketches with banding propose pairs, which are then compared exactly.

Two prompts are near duplicates when the sets of their 5-grams of normalised words have a Jaccard similarity of at least
0.8; equal prompts have similarity 1. Sketches propose pairs (Broder 1997, doi 10.1109/SEQUEN.1997.666900; banding:
Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, §3.4): two prompts of similarity s share a band with
probability 1 − (1 − s⁵)²⁰, which is 0.9996 at 0.8 and 0.05 at 0.3. Every pair is verified on the sets, so there are no
false positives. A prompt that shares too few 5-grams with any other is not sketched. Time is linear in the number of
5-grams.
"""

from __future__ import annotations

import heapq
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, shake_128

from tunix_rt.traces.normalise import ngrams

SHINGLE_WORDS = 5
THRESHOLD = 0.8
BANDS, ROWS = 20, 5
SEED = 0

# A set of fewer runs reaches 0.8 with no set but itself: 3 runs of 4 are 0.75, 4 of 5 are 0.8.
_MIN_SHINGLES = 4
# Longer prompts are sketched by this many of their runs, those with the smallest hash (a bottom-k sample).
_MAX_SKETCHED = 512
# In a band that very many prompts share, each is compared with this many of the earliest.
_MAX_COMPARED = 32
_ROW = struct.Struct(f"<{BANDS * ROWS}I")
_BAND_BYTES = 4 * ROWS

Shingles = frozenset[str]


@dataclass(frozen=True)
class Neighbour:
    """The prompt at ``position`` of its list, and its similarity, from 0.8 to 1."""

    position: int
    similarity: float


@dataclass(frozen=True)
class Match:
    """A prompt of one list that nearly equals a query of another list."""

    position: int
    query: int
    similarity: float


def shingles(prompt: str) -> Shingles:
    """The prompt's 5-grams of normalised words; a shorter prompt is one run of its own length."""
    return frozenset(ngrams(prompt, SHINGLE_WORDS))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Size of the intersection over that of the union; 1 for two empty sets."""
    common = len(a & b)
    union = len(a) + len(b) - common
    return common / union if union else 1.0


def signature(runs: Iterable[str], seed: int = SEED) -> tuple[int, ...]:
    """The MinHash sketch of a non-empty set: 100 minima of as many hash functions."""
    rows = [_hashes(run, seed) for run in runs]
    return tuple(map(min, *rows)) if len(rows) > 1 else rows[0]


def estimated_jaccard(a: Sequence[int], b: Sequence[int]) -> float:
    """The share of equal minima: estimates the Jaccard similarity s with variance s(1 − s)/100."""
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def earlier_neighbours(prompts: Sequence[str], seed: int = SEED) -> dict[int, Neighbour]:
    """For each prompt that nearly equals an earlier one, by position: that earlier prompt.

    If there are several: an equal prompt if there is one, else the earliest found.
    """
    positions = _perhaps_near(prompts)
    among = _earlier_neighbours([prompts[position] for position in positions], seed)
    return {
        positions[later]: Neighbour(positions[neighbour.position], neighbour.similarity)
        for later, neighbour in among.items()
    }


def _perhaps_near(prompts: Sequence[str]) -> list[int]:
    """The positions of all prompts that can have a near duplicate: enough of their runs occur in another one.

    Runs are compared by hash, in a fraction of the time and memory of the runs themselves; two with one hash only make
    the list longer.
    """
    hashed = [array("q", map(hash, ngrams(prompt, SHINGLE_WORDS))) for prompt in prompts]
    seen: set[int] = set()
    again: set[int] = set()
    for runs in hashed:
        again.update(seen.intersection(runs))
        seen.update(runs)
    return [
        position for position, runs in enumerate(hashed) if sum(map(again.__contains__, runs)) >= THRESHOLD * len(runs)
    ]


def _earlier_neighbours(prompts: Sequence[str], seed: int) -> dict[int, Neighbour]:
    sets = _shared(prompts)
    found: dict[int, Neighbour] = {}
    first: dict[Shingles, int] = {}
    for position, runs in enumerate(sets):
        earliest = first.setdefault(runs, position)
        if earliest != position:
            found[position] = Neighbour(earliest, 1.0)
    holders = Counter(run for runs in first for run in runs)
    sketches = {
        position: _sketch(runs, seed)
        for runs, position in first.items()
        if _may_be_near(runs, sum(holders[run] > 1 for run in runs))
    }
    for bucket in _buckets(sketches):
        for later in bucket[1:]:
            before = found[later].position if later in found else later
            near = _first_near(sets, bucket[:_MAX_COMPARED], later, before)
            if near is not None:
                found[later] = near
    return found


def matches(prompts: Sequence[str], queries: Sequence[str], seed: int = SEED) -> Iterator[Match]:
    """Every pair of a prompt and a query that are near duplicates or equal, in the order of the prompts."""
    query_sets = _shared(queries)
    asked = frozenset(run for runs in query_sets for run in runs)
    equal: dict[Shingles, list[int]] = {}
    bands: list[dict[bytes, list[int]]] = [{} for _ in range(BANDS)]
    for position, runs in enumerate(query_sets):
        equal.setdefault(runs, []).append(position)
        if len(runs) >= _MIN_SHINGLES:
            for band, key in enumerate(_band_keys(_sketch(runs, seed))):
                bands[band].setdefault(key, []).append(position)
    for position, prompt in enumerate(prompts):
        runs = shingles(prompt)
        candidates = set(equal.get(runs, ()))
        if _may_be_near(runs, len(runs & asked)):
            keys = _band_keys(_sketch(runs, seed))
            candidates.update(q for band, key in zip(bands, keys, strict=True) for q in band.get(key, ()))
        for query in sorted(candidates):
            similarity = jaccard(runs, query_sets[query])
            if similarity >= THRESHOLD:
                yield Match(position, query, similarity)


def _may_be_near(runs: Shingles, shared: int) -> bool:
    """Whether a set of which ``shared`` runs occur elsewhere can have a near duplicate; most sets need no sketch."""
    return len(runs) >= _MIN_SHINGLES and shared / len(runs) >= THRESHOLD


def _first_near(sets: Sequence[Shingles], bucket: Sequence[int], later: int, before: int) -> Neighbour | None:
    """The first position of the bucket below ``before`` that is a near duplicate of ``later``."""
    for earlier in bucket:
        if earlier >= before:
            break
        similarity = jaccard(sets[earlier], sets[later])
        if similarity >= THRESHOLD:
            return Neighbour(earlier, similarity)
    return None


def _buckets(sketches: Mapping[int, bytes]) -> Iterator[list[int]]:
    """Positions that share a band, ascending; one band at a time, to keep only one band's keys in memory."""
    for start in range(0, BANDS * _BAND_BYTES, _BAND_BYTES):
        buckets: dict[bytes, list[int]] = {}
        for position, sketch in sketches.items():
            buckets.setdefault(sketch[start : start + _BAND_BYTES], []).append(position)
        yield from (bucket for bucket in buckets.values() if len(bucket) > 1)


def _shared(prompts: Iterable[str]) -> list[Shingles]:
    """The prompts' runs, with equal runs interned."""
    known: dict[str, str] = {}
    return [frozenset(known.setdefault(run, run) for run in shingles(prompt)) for prompt in prompts]


def _sketch(runs: Shingles, seed: int) -> bytes:
    sampled = runs if len(runs) <= _MAX_SKETCHED else heapq.nsmallest(_MAX_SKETCHED, runs, key=_order)
    return _ROW.pack(*signature(sampled, seed))


def _order(run: str) -> bytes:
    return blake2b(run.encode(), digest_size=8).digest()


def _band_keys(sketch: bytes) -> Iterator[bytes]:
    return (sketch[start : start + _BAND_BYTES] for start in range(0, len(sketch), _BAND_BYTES))


@lru_cache(maxsize=4096)
def _hashes(run: str, seed: int) -> tuple[int, ...]:
    """The run's 32-bit hash under each of the 100 functions."""
    return _ROW.unpack(shake_128(f"{seed} {run}".encode()).digest(_ROW.size))
