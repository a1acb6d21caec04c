"""One worked example of `golden-v2`."""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.traces.schema import Step, Trace


@dataclass(frozen=True)
class Example:
    """A question with its steps and its short answer."""

    domain: str
    prompt: str
    steps: tuple[str, ...]
    answer: str

    def to_trace(self) -> Trace:
        """The trace; the last step is the conclusion, the others are reasoning."""
        last = len(self.steps)
        return Trace(
            prompt=self.prompt,
            final_answer=self.answer,
            steps=tuple(
                Step(i=i, type="conclude" if i == last else "reason", content=text)
                for i, text in enumerate(self.steps, start=1)
            ),
            meta={"category": self.domain, "recipe": "golden-v2"},
        )
