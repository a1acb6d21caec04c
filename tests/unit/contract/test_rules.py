from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor

from tunix_rt.contract.generation import GENERATION_RULES, check_generation, complete_generation
from tunix_rt.contract.hyperparameters import FLAT_RULES, LORA_RULES, MESH_RULES, RULES
from tunix_rt.contract.rules import Rule
from tunix_rt.errors import Violations
from tunix_rt.v1 import common_pb2, runs_pb2

TYPES = {
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_STRING: str,
}


def types(message: type) -> dict[str, tuple[type, bool]]:
    """Type of each field's values, and whether it is repeated; nested messages have rules of their own."""
    fields = message.DESCRIPTOR.fields  # type: ignore[attr-defined]
    return {field.name: (TYPES[field.type], field.is_repeated) for field in fields if field.type in TYPES}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (FLAT_RULES, runs_pb2.Hyperparameters),
        (LORA_RULES, runs_pb2.LoraConfig),
        (MESH_RULES, runs_pb2.Mesh),
        (GENERATION_RULES, common_pb2.GenerationConfig),
    ],
)
def test_there_is_a_rule_for_every_field_of_the_contract_and_for_nothing_else(
    rules: dict[str, Rule], message: type
) -> None:
    assert {name: (rule.kind, rule.entries is not None) for name, rule in rules.items()} == types(message)


def test_every_scalar_but_the_mesh_can_be_tuned() -> None:
    assert set(RULES) == {*FLAT_RULES, "lora.rank", "lora.alpha", "lora.dropout", "lora.use_rslora", "lora.use_dora"}


def test_every_default_satisfies_its_rule() -> None:
    for rule in (*FLAT_RULES.values(), *MESH_RULES.values()):
        assert rule.default is None or rule.problem(rule.default) is None


def test_the_default_generation_config_is_served() -> None:
    found = Violations()
    check_generation(complete_generation({}), found)
    assert not found


def test_open_ends_do_not_belong_to_a_range() -> None:
    alpha = RULES["lora.alpha"]
    assert (alpha.interval, alpha.problem(0), alpha.problem(1e-6)) == ("(0, inf)", "must be in (0, inf)", None)
    assert RULES["lora.dropout"].problem(1.0) == "must be in [0, 1)"
    assert RULES["lora.rank"].problem(1024.0) is None


def test_the_largest_int64_is_exact() -> None:
    seed = RULES["seed"]
    assert (seed.high, seed.problem(2**63 - 1)) == (9223372036854775807, None)
    assert seed.problem(2**63) == "must be in [0, 9223372036854775807]"
    assert seed.problem(10**400) is not None


@pytest.mark.parametrize(
    ("rule", "value", "problem"),
    [
        (Rule(bool), 1, "must be true or false"),
        (Rule(int), True, "must be a number"),
        (Rule(int), 1.5, "must be a whole number"),
        (Rule(float), "1", "must be a number"),
        (Rule(float), float("nan"), "must be finite"),
        (Rule(float), float("inf"), "must be finite"),
        (Rule(str), 1, "must be text"),
        (Rule(str, interval="[1, 2]"), "abc", "must have a length in [1, 2] characters"),
        (Rule(str), "a\0", "must not contain NUL"),
        (Rule(str, pattern="[a-z]+"), "A", "must match [a-z]+"),
        (Rule(str, pattern="[a-z]+", expected="a word"), "A", "must be a word"),
        (Rule(str, choices=("a", "b")), "x", "unknown value 'x'; expected one of a, b"),
        (Rule(str, choices=("", "b")), "x", "unknown value 'x'; expected one of \"\", b"),
        (Rule(str, choices=("a", "b"), served=("a",)), "b", "'b' is not served by this version; expected one of a"),
        (Rule(str, choices=("a", "b"), served=("a",)), "a", None),
    ],
)
def test_a_problem_says_what_is_expected(rule: Rule, value: object, problem: str | None) -> None:
    assert rule.problem(value) == problem


def test_entries_of_a_repeated_field_are_counted_and_named() -> None:
    found = Violations()
    Rule(str, interval="[1, 3]", entries=2).check(["abc", "", "abcd"], "stop", found)
    assert [(each.field, each.description) for each in found] == [
        ("stop", "must have at most 2 entries"),
        ("stop[1]", "must have a length in [1, 3] characters"),
    ]


def test_what_is_no_interval_is_an_error_of_the_table() -> None:
    with pytest.raises(ValueError, match="is not an interval"):
        Rule(float, interval="0..1").problem(0.5)


def test_violations_are_true_when_there_are_any() -> None:
    found = Violations()
    assert not found
    found.under("spec").add("pool", "is required")
    assert found
