"""Reading a completion back into reasoning and answer; the code is `tunix_rt.quality.extract`, which scoring shares."""

from __future__ import annotations

from tunix_rt.quality.extract import Extraction, extract

__all__ = ["Extraction", "extract"]
