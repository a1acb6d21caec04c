"""Where a tuner may find Ray."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunix_rt.tuner.settings import TunerSettings


def test_rays_client_protocol_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNIX_RT_RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ValidationError, match=r"ray_address\n.*ray start --address=host:6379 --num-cpus=0"):
        TunerSettings()
    monkeypatch.setenv("TUNIX_RT_RAY_ADDRESS", "head:6379")
    assert TunerSettings().ray_address == "head:6379"
