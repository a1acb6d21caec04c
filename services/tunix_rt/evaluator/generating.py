"""From a prompt to a result: generation with a model that may have to be loaded again, then scoring."""

from __future__ import annotations

import asyncio

from tunix_rt.errors import FailedPrecondition, InvalidArtifact, InvalidInput, NotFound, TunixError
from tunix_rt.evaluator.work import Evaluation, Generated, Inferencer, LoadedModel, Result
from tunix_rt.observability.logs import get_logger
from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scorers import ScorerSet
from tunix_rt.quality.scoring import score_item
from tunix_rt.worker.retries import RetryPolicy

_log = get_logger(__name__)


class Generating:
    """The model of one evaluation on the inferencer. Safe to use from many tasks at once."""

    def __init__(
        self,
        evaluation: Evaluation,
        inferencer: Inferencer,
        retries: RetryPolicy,
        item_tries: int,
        scorers: ScorerSet,
    ) -> None:
        self._evaluation = evaluation
        self._inferencer = inferencer
        self._retries = retries
        self._item_tries = item_tries
        self._scorers = scorers
        self._model: LoadedModel | None = None
        self._loading = asyncio.Lock()

    async def model(self, *, instead_of: str = "") -> LoadedModel:
        """The loaded model; loads it when it is not, or when the inferencer has forgotten the handle ``instead_of``.

        Raises `InvalidArtifact` when it is missing or not the one that is to be evaluated, and `RetriesExhausted`.
        """
        async with self._loading:
            if self._model is None or self._model.handle == instead_of:
                self._model = await self._retries.call(self._load)
            return self._model

    async def result(self, item: EvalItem, sample: int) -> Result:
        """The scored answer. ERRORED when this item cannot be generated here, which says nothing about the answer."""
        tries = 0
        while True:
            try:
                generated = await self._generate(item, sample)
            except (InvalidInput, FailedPrecondition) as error:
                return Result(item.id, sample, "ERRORED", message=f"not generated: {error}")
            except InvalidArtifact:
                raise
            except TunixError as error:
                tries += 1
                _log.warning("generation failed", item_id=item.id, tries=tries, error=str(error))
                if tries >= self._item_tries:
                    return Result(item.id, sample, "ERRORED", message=f"failed {tries} times: {error}")
            else:
                return await asyncio.to_thread(_scored, item, sample, generated, self._scorers)

    async def _generate(self, item: EvalItem, sample: int) -> Generated:
        seed = self._evaluation.seed + sample

        async def once() -> Generated:
            model = await self.model()
            try:
                return await self._inferencer.generate(model.handle, item.prompt, self._evaluation.generation, seed)
            except NotFound:
                model = await self.model(instead_of=model.handle)
                return await self._inferencer.generate(model.handle, item.prompt, self._evaluation.generation, seed)

        return await self._retries.call(once)

    async def _load(self) -> LoadedModel:
        wanted = self._evaluation
        expected = wanted.model_digest
        loaded = await self._inferencer.load(wanted.model_reference, expected, wanted.generation)
        if expected and loaded.digest != expected:
            raise InvalidArtifact(f"the inferencer loaded {loaded.digest}, expected {expected}")
        return loaded


def _scored(item: EvalItem, sample: int, generated: Generated, scorers: ScorerSet) -> Result:
    score = score_item(item, generated.text, finish_reason=generated.finish_reason, scorers=scorers)
    return Result(
        item_id=item.id,
        sample_index=sample,
        outcome=score.outcome.value,
        prediction=generated.text,
        extracted_answer=score.extracted_answer or "",
        metrics=score.metrics,
        message=score.message,
        finish_reason=generated.finish_reason,
        prompt_tokens=generated.prompt_tokens,
        completion_tokens=generated.completion_tokens,
    )
