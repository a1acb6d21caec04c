from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor

from tunix_rt.search_space.rules import FLAT_RULES, LORA_RULES, RULES
from tunix_rt.v1 import runs_pb2

TYPES = {
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_STRING: str,
}


def scalars(message: type) -> dict[str, type]:
    fields = message.DESCRIPTOR.fields  # type: ignore[attr-defined]
    return {field.name: TYPES[field.type] for field in fields if field.type in TYPES and not field.is_repeated}


def test_there_is_a_rule_for_every_scalar_of_the_contract_and_for_nothing_else() -> None:
    assert {name: rule.kind for name, rule in FLAT_RULES.items()} == scalars(runs_pb2.Hyperparameters)
    assert {name: rule.kind for name, rule in LORA_RULES.items()} == scalars(runs_pb2.LoraConfig)
    assert set(RULES) == {*FLAT_RULES, "lora.rank", "lora.alpha", "lora.dropout"}


def test_open_ends_do_not_belong_to_a_range() -> None:
    alpha = RULES["lora.alpha"]
    assert (alpha.interval, alpha.problem(0), alpha.problem(1e-6)) == ("(0, inf)", "must be in (0, inf)", None)
    assert RULES["lora.dropout"].problem(1.0) == "must be in [0, 1)"
    assert RULES["lora.rank"].problem(1024.0) is None
