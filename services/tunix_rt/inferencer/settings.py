"""The inferencer's settings; the only reader of its environment (TUNIX_RT_*)."""

from __future__ import annotations

from pydantic import Field

from tunix_rt.rpc.settings import ServerSettings


class InferencerSettings(ServerSettings):
    """The shape settings decide which programs are compiled, and so, to the last bit, what a model answers."""

    listen: str = "127.0.0.1:7702"
    # host:port of the OpenAI-compatible HTTP endpoint; port 0 picks a free one, "" is off.
    http_listen: str = Field(default="", pattern=r"^(.+:\d{1,5})?$")
    # Requests that decode at the same time, per model.
    inferencer_slots: int = Field(default=8, ge=1, le=256)
    # Positions per slot: prompt and answer together. A model whose own context is shorter has that.
    inferencer_context: int = Field(default=1024, ge=16, le=131072)
    # Prompt tokens per prefill dispatch.
    inferencer_chunk: int = Field(default=64, ge=8, le=2048)
    # Positions of earlier prompts that are kept, per model, for prompts that begin alike; 0 keeps none.
    inferencer_prefix_tokens: int = Field(default=4096, ge=0)
    # Decode steps per dispatch.
    inferencer_steps: int = Field(default=8, ge=1, le=64)
    # Requests that may wait, per model.
    inferencer_queue_limit: int = Field(default=256, ge=1)
    inferencer_max_models: int = Field(default=4, ge=1)
    inferencer_memory_mib: int = Field(default=8192, ge=64)
    # Adapters that a model can have loaded at the same time; 0 is off.
    inferencer_adapters: int = Field(default=4, ge=0, le=64)
    # The largest rank of an adapter. Each takes the memory of one of this rank.
    inferencer_adapter_rank: int = Field(default=16, ge=1, le=256)
    # Keep compiled programs in the cache directory, so that a restart is ready sooner.
    inferencer_compilation_cache: bool = True

    @property
    def memory_budget(self) -> int:
        """Bytes."""
        return self.inferencer_memory_mib << 20
