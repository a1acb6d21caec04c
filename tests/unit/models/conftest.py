"""Programs here run once or twice."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def all_compiled_quickly(compiled_quickly: None) -> None:
    """Every module of this directory."""
