"""What unit tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def compiled_quickly() -> Iterator[None]:
    """For programs that run once or twice: the compiler is told not to optimise them."""
    import jax  # here: most unit tests need none

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
