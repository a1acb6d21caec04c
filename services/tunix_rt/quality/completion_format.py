"""The format that a completion is asked for: one thought, then one ``<answer>``, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.quality.tags import Part, Tag


def format_problems(text: str, tags: Sequence[Tag]) -> list[str]:
    """Why ``text`` is not exactly one thought followed by exactly one ``<answer>…</answer>``; empty if it is.

    Both are in tags in lower case and not blank, with only white space before, between and after. ``<reasoning>`` needs
    its opening tag; templates of other thoughts may open them in the prompt.
    """
    marks = [tag for tag in tags if tag.part is Part.THOUGHT or tag.name == "answer"]
    name = next((tag.name for tag in marks if tag.part is Part.THOUGHT), "reasoning")
    opened_by_template = name != "reasoning" and not any(tag.part is Part.THOUGHT and not tag.closing for tag in marks)
    kinds = [(name, False), (name, True), ("answer", False), ("answer", True)][opened_by_template:]
    found = [(tag.name, tag.closing) for tag in marks]
    problems = [
        f"{found.count((kind, closing))} <{'/' if closing else ''}{kind}> tags, not 1"
        for kind, closing in kinds
        if found.count((kind, closing)) != 1
    ]
    if problems:
        return problems
    if len(found) > len(kinds):
        return ["thoughts in tags of different names"]
    if not all(tag.literal or tag.name not in ("reasoning", "answer") for tag in marks):
        return ["tags are not written <reasoning>, </reasoning>, <answer>, </answer>"]
    if found != kinds:
        return ["tags are not in order: reasoning first, then the answer, neither inside the other"]
    thought_end, answer_open, answer_close = marks[-3:]
    thought_start = 0 if opened_by_template else marks[0].end
    before = 0 if opened_by_template else marks[0].start
    spans = ((0, before), (thought_end.end, answer_open.start), (answer_close.end, len(text)))
    for (start, end), place in zip(spans, ("before", "between", "after"), strict=True):
        if text[start:end].strip():
            problems.append(f"text {place} the tagged parts")
    if not text[thought_start : thought_end.start].strip():
        problems.append("the reasoning is empty")
    if not text[answer_open.end : answer_close.start].strip():
        problems.append("the answer is empty")
    return problems
