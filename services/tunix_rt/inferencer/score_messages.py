"""The edge between protobuf and the domain for `Score`: a text goes in, its tokens' log-probabilities come out."""

from __future__ import annotations

from tunix_rt.errors import Violations
from tunix_rt.inferencer import generation as domain
from tunix_rt.inferencer.adapter_pool import Served
from tunix_rt.inferencer.generation import Delta, Generation
from tunix_rt.inferencer.messages import write_logprobs, write_usage
from tunix_rt.v1 import inference_pb2


def check_score(request: inference_pb2.ScoreRequest) -> Violations:
    """Every violation that can be seen without the model."""
    bad = Violations()
    bad.check(bool(request.model), "model", "must be a handle that LoadModel returned")
    kind = request.WhichOneof("input")
    if bad.check(kind is not None, "input", "set one of text and tokens"):
        empty = not (request.text if kind == "text" else request.tokens.token_ids)
        bad.check(not empty, "text" if kind == "text" else "tokens.token_ids", "must not be empty")
    ok = 0 <= request.top_logprobs <= domain.MAX_TOP_LOGPROBS
    bad.check(ok, "top_logprobs", f"must be in [0, {domain.MAX_TOP_LOGPROBS}]")
    return bad


def read_score(request: inference_pb2.ScoreRequest, model: Served, *, caller: str, bad: Violations) -> Generation:
    """A generation of nothing, with the scores of its prompt. Raises `InvalidInput` with ``bad`` and what only the
    model can tell."""
    servable = model.servable
    field = "text" if request.WhichOneof("input") == "text" else "tokens.token_ids"
    servable.check_ids(request.tokens.token_ids, field, bad)
    bad.raise_if_any()
    ids = servable.codec.encode(request.text) if field == "text" else list(request.tokens.token_ids)
    servable.check_length(ids, field, bad, answered=False)
    bad.raise_if_any()
    return Generation(
        prompt=tuple(ids),
        max_new_tokens=0,
        prompt_logprobs=request.top_logprobs,
        caller=caller,
        adapter=model.adapter_name,
    )


def write_score(deltas: list[Delta], generation: Generation, model: Served) -> inference_pb2.ScoreResponse:
    scores = [token for delta in deltas for token in delta.prompt]
    return inference_pb2.ScoreResponse(
        token_ids=generation.prompt,
        logprobs=write_logprobs(scores, model.servable.codec),
        usage=write_usage(deltas[-1], generation, 0),
        model_digest=model.digest,
        adapter_digest=model.adapter_digest,
    )
