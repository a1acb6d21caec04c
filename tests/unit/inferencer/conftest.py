"""An inferencer whose models are arithmetic: the whole service without JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.errors import NotFound
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.generation import ChosenToken, Delta, Failure
from tunix_rt.inferencer.loaded_adapter import ResolvedAdapter, ServableAdapter
from tunix_rt.inferencer.model_pool import ResolvedModel, Servable
from tunix_rt.inferencer.text import Detokenizer
from tunix_rt.models.tokenizer import IncrementalDetokenizer


class LetterTokenizer:
    """Token i is the i-th printable ASCII character from the space on; 95 and 96 are the two bytes of "é"."""

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return [ord(letter) - 32 for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        raw = b"".join({95: b"\xc3", 96: b"\xa9"}.get(i, bytes([i + 32]) if i < 95 else b"") for i in ids)
        return raw.decode("utf-8", errors="replace")

    def token_text(self, token_id: int) -> str:
        return self.decode([token_id])

    def detokenizer(self, *, keep_special: bool = False) -> Detokenizer:
        return IncrementalDetokenizer(self.decode)

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], *, template: str = "", parse_control_tokens: bool = False
    ) -> list[int]:
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        return self.encode(("!" if parse_control_tokens else "") + template + text)

    def end_of_turn(self, template: str = "") -> int:
        return ord(template[0]) - 32

    def text_limit(self, tokens: int) -> int:
        return 4 * tokens

    def close(self) -> None:
        pass


@dataclass
class ArithmeticLoader:
    """`Loader` of references ``test://NAME``; a model's digest is made of its name. Formats stand behind "#" in
    ``loads``.

    ``adapter://NAME/RANK/BASE`` is an adapter of ``test://BASE``. Its tokens are a model's, but "!" ends its answers.
    """

    memory_bytes: int = 100
    engine: Callable[[], FakeEngine] = FakeEngine
    eos_ids: frozenset[int] = frozenset()
    before_load: Callable[[], None] = lambda: None
    loads: list[str] = field(default_factory=list)

    def find(self, reference: str, weight_format: str) -> ResolvedModel:
        if not reference.startswith("test://"):
            raise NotFound(f"{reference} is not there")
        return ResolvedModel(reference, digest_of(reference), self.memory_bytes, weight_format)

    def load(self, candidate: ResolvedModel) -> Servable:
        self.loads.append("#".join(filter(None, (candidate.reference, candidate.weight_format))))
        self.before_load()
        engine = self.engine()
        return Servable(engine, LetterTokenizer(), "arithmetic", 1, 97, self.eos_ids, self.memory_bytes)

    def find_adapter(self, reference: str) -> ResolvedAdapter:
        if not reference.startswith("adapter://"):
            raise NotFound(f"{reference} is not there")
        _, rank, base = reference.removeprefix("adapter://").split("/")
        base = f"test://{base}"
        return ResolvedAdapter(reference, digest_of(reference), digest_of(base), base, int(rank))

    def load_adapter(self, candidate: ResolvedAdapter, servable: Servable) -> ServableAdapter:
        self.loads.append(candidate.reference)
        self.before_load()
        return ServableAdapter(AdapterFactors(candidate.rank, {}), servable.tokenizer, frozenset({1}))


def digest_of(reference: str) -> str:
    return "sha256:" + reference.removeprefix("test://").encode().hex().ljust(64, "0")[:64]


class Recorder:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Delta | Failure] = []

    def __call__(self, event: Delta | Failure) -> None:
        self.events.append(event)

    @property
    def deltas(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]

    @property
    def tokens(self) -> list[int]:
        return [token.token_id for token in self.chosen]

    @property
    def chosen(self) -> list[ChosenToken]:
        return [token for delta in self.deltas for token in delta.tokens]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)


@pytest.fixture
def tokenizer() -> LetterTokenizer:
    return LetterTokenizer()


@pytest.fixture
def recorder() -> Callable[[], Recorder]:
    return Recorder


@pytest.fixture
def arithmetic_loader() -> type[ArithmeticLoader]:
    return ArithmeticLoader
