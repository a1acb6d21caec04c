"""Token ids of prompts and training examples.

Owns where a prompt ends and a completion begins, so that training and serving see the same ids: the prompt is the
chat template up to the assistant's turn, the completion is tokenised by itself, and the end-of-turn token closes it.
"""

from __future__ import annotations

from tunix_rt.models.tokenizer import Tokenizer


def render_prompt(tokenizer: Tokenizer, user: str, system: str | None = None) -> list[int]:
    """Ids of a conversation whose next turn is the assistant's; ``system`` goes first when it is set."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    return tokenizer.encode(tokenizer.render_chat([*messages, {"role": "user", "content": user}]))


def render_example(tokenizer: Tokenizer, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """Ids of a whole training example, and 1 for each id that the loss counts: the completion and the end-of-turn
    token."""
    before = render_prompt(tokenizer, prompt)
    after = [*tokenizer.encode(completion), tokenizer.eos_token_ids[0]]
    return before + after, [0] * len(before) + [1] * len(after)
