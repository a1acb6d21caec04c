"""The inferencer's settings; the only reader of its environment (TUNIX_RT_*)."""

from __future__ import annotations

from pydantic import Field

from tunix_rt.rpc.settings import ServerSettings


class InferencerSettings(ServerSettings):
    """The shape settings select the compiled programs, and so, to the last bit, a model's answers."""

    listen: str = "127.0.0.1:7702"
    # host:port of the registry, which knows whose a token is. "": this process's own token is the only one.
    registry_address: str = ""
    # host:port of the OpenAI-compatible HTTP endpoint; port 0 picks a free one, "" is off.
    http_listen: str = Field(default="", pattern=r"^(.+:\d{1,5})?$")
    # Concurrently decoding requests per model.
    inferencer_slots: int = Field(default=8, ge=1, le=256)
    # Positions per slot, prompt and answer together. A model with a shorter context uses its own.
    inferencer_context: int = Field(default=1024, ge=16, le=131072)
    # Prompt tokens per prefill dispatch.
    inferencer_chunk: int = Field(default=64, ge=8, le=2048)
    # Size of the prefix cache in positions, per model; 0: off.
    inferencer_prefix_tokens: int = Field(default=4096, ge=0)
    # Decode steps per dispatch.
    inferencer_steps: int = Field(default=8, ge=1, le=64)
    # Maximum number of waiting requests per model.
    inferencer_queue_limit: int = Field(default=256, ge=1)
    inferencer_max_models: int = Field(default=4, ge=1)
    inferencer_memory_mib: int = Field(default=8192, ge=64)
    # A load that takes longer is given up, downloads and compilation included.
    inferencer_load_seconds: float = Field(default=1800.0, gt=0)
    # Maximum number of loaded adapters per model; 0: off.
    inferencer_adapters: int = Field(default=4, ge=0, le=64)
    # Maximum adapter rank. Every adapter takes the memory of this rank.
    inferencer_adapter_rank: int = Field(default=16, ge=1, le=256)
    # Cache compiled programs on disk for faster restarts.
    inferencer_compilation_cache: bool = True

    @property
    def memory_budget(self) -> int:
        """Bytes."""
        return self.inferencer_memory_mib << 20
