from __future__ import annotations

import pytest

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.search_space.population import SHARED, keep_checkpoints, number_of, place_of
from tunix_rt.v1 import runs_pb2


def test_a_number_tells_generation_and_member() -> None:
    assert [place_of(number, 4) for number in (0, 3, 4, 11)] == [(0, 0), (0, 3), (1, 0), (2, 3)]
    assert [number_of(member, generation, 4) for generation, member in ((0, 0), (0, 3), (1, 0), (2, 3))] == [
        0,
        3,
        4,
        11,
    ]


def test_what_members_share_are_names_of_hyperparameters() -> None:
    assert set(SHARED) <= RULES.keys()


@pytest.mark.parametrize(
    ("save_steps", "save_total_limit", "max_steps", "interval", "expected"),
    [
        # No checkpoints at all, or none at each look: one at each look.
        (0, 2, 100, 20, (20, 6)),
        (50, 2, 100, 20, (20, 6)),
        # Those of every tenth step are among them.
        (10, 2, 100, 20, (10, 11)),
        (10, 50, 100, 20, (10, 50)),
        # A hundred are kept at most, which is two intervals and more.
        (1, 2, 1000, 40, (1, 100)),
        # Two intervals of 60 steps would be more than may be kept: one at each look.
        (1, 2, 1000, 60, (60, 17)),
    ],
)
def test_a_checkpoint_of_each_look_is_kept_until_others_have_taken_it(
    save_steps: int, save_total_limit: int, max_steps: int, interval: int, expected: tuple[int, int]
) -> None:
    found = runs_pb2.Hyperparameters(save_steps=save_steps, save_total_limit=save_total_limit, max_steps=max_steps)
    keep_checkpoints(found, interval)
    assert (found.save_steps, found.save_total_limit) == expected
