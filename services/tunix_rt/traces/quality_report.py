"""The quality report of trace JSONL: problems and warnings before a model is trained on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.items import EvalItem
from tunix_rt.traces.contamination import Leaks, find_leaks
from tunix_rt.traces.lengths import (
    Bin,
    CategoryStatistics,
    TokenLengths,
    category_statistics,
    histogram,
    token_lengths,
    trace_tokens,
)
from tunix_rt.traces.repeats import Repeats, find_repeats
from tunix_rt.traces.schema import read_traces
from tunix_rt.traces.soundness import EXPLANATIONS, Doubt, doubts

_NUMBERS = re.compile(r"(?<![\w-])\d+")
_DETAIL = re.compile(r"\s*\(.*\)|; .*", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """One violation on one line (0: of the file). ``kind`` groups violations of the same sort."""

    line: int
    field: str
    description: str
    kind: str


@dataclass(frozen=True)
class Budget:
    """The traces longer than ``limit`` tokens: their number and their lines."""

    limit: int
    exceeding: int
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """One finding: ``level`` is "problem" or "warning", ``count`` the number of traces or lines."""

    level: str
    code: str
    count: int
    text: str


@dataclass(frozen=True)
class QualityReport:
    """The report. Positions in ``repeats``, ``doubts`` and ``leaks`` are indexes into ``lines``."""

    failures: tuple[Failure, ...]
    lines: tuple[int, ...]
    """The line number of every valid trace, from 1."""
    repeats: Repeats
    leaks: tuple[Leaks, ...]
    token_lengths: TokenLengths | None
    histogram: tuple[Bin, ...]
    categories: tuple[CategoryStatistics, ...]
    budget: Budget | None
    doubts: tuple[Doubt, ...]

    @property
    def failures_by_kind(self) -> dict[str, int]:
        """Number of failures by kind, most frequent first."""
        return dict(Counter(failure.kind for failure in self.failures).most_common())

    def findings(self) -> list[Finding]:
        """Problems first, then warnings; empty for a clean file."""
        found = [
            Finding("problem", "bad_lines", len({f.line for f in self.failures}), "lines are not valid traces"),
            Finding("problem", "identical", len(self.repeats.identical), "traces are identical to an earlier one"),
            *(finding for leaks in self.leaks for finding in _leak_findings(leaks)),
        ]
        if self.budget is not None:
            text = f"traces exceed the budget of {self.budget.limit} tokens"
            found.append(Finding("problem", "over_budget", self.budget.exceeding, text))
        conflicting = [group for group in self.repeats.prompts if group.conflicting]
        near = sum(len(group.positions) for group in self.repeats.near)
        found += [
            Finding("warning", "conflicting_answers", len(conflicting), "prompts have traces with different answers"),
            Finding("warning", "equal_prompts", len(self.repeats.prompts), "prompts have more than one trace"),
            Finding("warning", "near_duplicates", near, "traces are in groups of near-duplicate prompts"),
        ]
        traces_by_doubt = Counter(kind for kind, _ in {(doubt.kind, doubt.position) for doubt in self.doubts})
        found += [
            Finding("warning", kind, traces_by_doubt[kind], f"traces in which {explanation}")
            for kind, explanation in EXPLANATIONS.items()
        ]
        return [finding for finding in found if finding.count]

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object; traces are identified by their line."""
        return {
            "valid_traces": len(self.lines),
            "findings": [asdict(finding) for finding in self.findings()],
            "failures": [asdict(failure) for failure in self.failures],
            "failures_by_kind": self.failures_by_kind,
            "identical_lines": self._lines(self.repeats.identical),
            "equal_prompts": [
                {"prompt": group.prompt, "lines": self._lines(group.positions), "answers": list(group.answers)}
                for group in self.repeats.prompts
            ],
            "near_duplicates": self.repeats.near_duplicates,
            "near_duplicate_groups": [
                {"prompt": group.prompt, "lines": self._lines(group.positions), "similarity": group.similarity}
                for group in self.repeats.near
            ],
            "contamination": [self._leaks(leaks) for leaks in self.leaks],
            "token_lengths": self.token_lengths and asdict(self.token_lengths),
            "histogram": [asdict(each) for each in self.histogram],
            "categories": [asdict(each) for each in self.categories],
            "budget": self.budget and asdict(self.budget),
            "doubts": [
                {"line": self.lines[doubt.position], "kind": doubt.kind, "detail": doubt.detail}
                for doubt in self.doubts
            ],
        }

    def _lines(self, positions: Iterable[int]) -> list[int]:
        return [self.lines[position] for position in positions]

    def _leaks(self, leaks: Leaks) -> dict[str, Any]:
        document = asdict(leaks)
        document["overlaps"] = [
            {"line": self.lines[overlap.pop("trace")], **overlap} for overlap in document["overlaps"]
        ]
        return document


def quality_report(
    data: bytes, *, evalsets: Mapping[str, Sequence[EvalItem]] | None = None, max_trace_tokens: int | None = None
) -> QualityReport:
    """The report on trace JSONL. Invalid lines are reported and excluded from everything else.

    ``evalsets``: items by the display name of their evalset, to search for overlap. ``max_trace_tokens``: the token
    budget of a trace, in `regex-v1` tokens.
    """
    violations = Violations(limit=None)
    numbered = read_traces(_decoded_lines(data, violations), violations)
    traces = [trace for _, trace in numbered]
    numbers = tuple(number for number, _ in numbered)
    lengths = [trace_tokens(trace) for trace in traces]
    return QualityReport(
        failures=_failures(violations),
        lines=numbers,
        repeats=find_repeats(traces),
        leaks=find_leaks(traces, evalsets or {}),
        token_lengths=token_lengths(lengths) if lengths else None,
        histogram=histogram(lengths),
        categories=category_statistics(traces, lengths),
        budget=_budget(lengths, numbers, max_trace_tokens),
        doubts=tuple(doubt for position, trace in enumerate(traces) for doubt in doubts(position, trace)),
    )


def _decoded_lines(data: bytes, violations: Violations) -> list[str]:
    """The lines as text. A line that is not UTF-8 is a violation and becomes blank."""
    lines = []
    # JSON may contain U+2028 and the like unescaped, so only newlines end a line.
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            violations.add(f"line {number}.bytes", f"are not UTF-8 (byte {error.start} of the line)")
            lines.append("")
    return lines


def _failures(violations: Violations) -> tuple[Failure, ...]:
    """The violations in line order, with ``line 3.steps[1].content`` split into line and field."""
    failures = []
    for violation in violations:
        line, _, field = violation.field.partition(".")
        generic = re.sub(r"\[\d+\]", "[]", field)
        kind = f"{generic} {_NUMBERS.sub('N', _DETAIL.sub('', violation.description))}".strip()
        number = int(line.removeprefix("line ")) if line.startswith("line ") else 0
        failures.append(Failure(number, field, violation.description, kind))
    return tuple(sorted(failures, key=lambda failure: failure.line))


def _budget(lengths: Sequence[int], numbers: Sequence[int], limit: int | None) -> Budget | None:
    if limit is None:
        return None
    over = tuple(number for number, length in zip(numbers, lengths, strict=True) if length > limit)
    return Budget(limit, len(over), over)


def _leak_findings(leaks: Leaks) -> list[Finding]:
    name = leaks.evalset
    return [
        Finding("problem", "contaminated", leaks.exact_items, f"items of {name} have their prompt in the dataset"),
        Finding(
            "problem",
            "nearly_contaminated",
            leaks.near_items - leaks.exact_items,
            f"items of {name} are near duplicates of a prompt in the dataset, but not equal",
        ),
        Finding(
            "problem",
            "shared_ngram",
            sum(overlap.kind == "ngram" for overlap in leaks.overlaps),
            f"traces share an n-gram with {name}",
        ),
    ]
