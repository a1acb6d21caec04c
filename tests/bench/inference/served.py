"""``python -m tunix_rt.inferencer``, but models have no end-of-sequence ids: answers are as long as was asked for."""

from __future__ import annotations

import dataclasses

from tunix_rt.inferencer import __main__ as process
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.model_pool import ResolvedModel, Servable


class EndlessLoader(JaxModelLoader):
    """The service's loader."""

    def load(self, candidate: ResolvedModel) -> Servable:
        return dataclasses.replace(super().load(candidate), eos_ids=frozenset())


if __name__ == "__main__":
    process.JaxModelLoader = EndlessLoader  # type: ignore[misc]
    process.main()
