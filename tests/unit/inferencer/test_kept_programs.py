"""Compiled programs of models that are gone do not pile up."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tunix_rt.inferencer.engine.kept_programs import KeptShapes, dropping


def test_nothing_is_dropped_while_the_shapes_are_few() -> None:
    drops: list[str] = []
    kept = KeptShapes(lambda: drops.append("drop"), most=3)
    for shape in ("a", "b", "a", "c", "c", "b"):
        kept.note(shape)
    assert drops == []


def test_one_shape_too_many_drops_all_once_and_counting_begins_anew() -> None:
    drops: list[str] = []
    kept = KeptShapes(lambda: drops.append("drop"), most=3)
    for shape in range(10):
        kept.note(shape)
    assert len(drops) == 3  # before the shapes 3, 6 and 9


def test_a_drop_empties_own_caches_and_jaxs_and_programs_still_run() -> None:
    cleared: list[str] = []
    program = jax.jit(lambda x: x + 1)
    assert program(jnp.zeros(3)).tolist() == [1, 1, 1]
    assert program._cache_size() == 1
    dropping(lambda: cleared.append("own"))()
    assert cleared == ["own"]
    assert program._cache_size() == 0
    assert program(jnp.zeros(3)).tolist() == [1, 1, 1]
