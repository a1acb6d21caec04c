"""An evaluation in int8-v1 runs on int8 weights, and its score has an identity of its own."""

import pytest

from tunix_rt.client import JobState, Run, TunixClient
from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.identity import generation_digest

FLOAT32 = {"max_new_tokens": 32}
INT8 = {**FLOAT32, "weight_format": "int8-v1"}


@pytest.mark.slow
def test_an_evaluation_in_int8_is_served_in_int8_and_compared_with_none_in_float32(
    client: TunixClient, trained: Run
) -> None:
    created = client.evaluations.create(trained.model_id, "arith_v1", generation=INT8)
    int8 = client.evaluations.wait(created.id, timeout_seconds=240)
    assert int8.state is JobState.SUCCEEDED, int8.message
    float32 = client.evaluations.get(trained.evaluation_ids[0])
    assert int8.identity.model_digest == float32.identity.model_digest
    assert int8.identity.generation_digest == generation_digest(INT8)
    assert float32.identity.generation_digest == generation_digest(FLOAT32)
    with pytest.raises(FailedPrecondition, match="generation_digest"):
        client.compare(float32.id, int8.id)

    # The model used last is the one in int8, and it is what the stored answers came from.
    models = client.inference.loaded()
    assert (models[0].weight_format, models[0].digest) == ("int8-v1", int8.identity.model_digest)
    results = list(client.evaluations.items(int8.id, limit=4))
    prompts = {item.id: item.prompt for item in client.evalsets.items(client.evalsets.get("arith_v1").id)}
    for result in results:
        answers = [
            client.generate(trained.model_id, prompts[result.item_id], config=config, return_logprobs=True)
            for config in (INT8, FLOAT32)
        ]
        assert answers[0].text == result.prediction
        assert answers[0].logprobs[0].logprob != answers[1].logprobs[0].logprob
