"""Prefix cache: keys and values of earlier prompts, by chunk, for prompts with the same beginning.

A chunk's keys and values depend only on the weights, the adapter and every token up to the chunk's end. Its cache key
is a digest over adapter and tokens. A restored chunk is bit for bit what prefill wrote, so an answer does not depend on
the contents of the cache.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from tunix_rt.inferencer.engine import programs
from tunix_rt.models.cached import KVCache, init_cache
from tunix_rt.models.config import ModelConfig


class PrefixCache:
    """``count`` pages of one chunk (``width`` positions) each. A new chunk replaces the least recently used page."""

    def __init__(self, config: ModelConfig, count: int, width: int) -> None:
        self.pages = init_cache(config, count, width)
        self._count = count
        self._width = width
        self.forget()

    def forget(self) -> None:
        """Empty all pages."""
        self._free = list(range(self._count))
        self._held: OrderedDict[bytes, int] = OrderedDict()  # page by key, least recently used first

    def keys_of(self, adapter: str, prompt: Sequence[int]) -> list[bytes]:
        """A key for each whole chunk of ``prompt``: SHA-256 over the adapter and all tokens up to its end."""
        if not self._count:
            return []
        tokens, step = np.asarray(prompt, "<i4").tobytes(), 4 * self._width
        running = hashlib.sha256(adapter.encode() + b"\0")
        keys: list[bytes] = []
        for end in range(step, len(tokens) + 1, step):
            running.update(tokens[end - step : end])
            keys.append(running.copy().digest())
        return keys

    def restore(self, cache: KVCache, keys: Sequence[bytes], slot: int, start: int) -> tuple[KVCache, int]:
        """Write the chunks with these keys to a slot's positions from ``start``, up to the first missing one.

        ``cache`` is donated. Returns the cache and the number of written chunks.
        """
        for chunk, key in enumerate(keys):
            page = self._held.get(key)
            if page is None:
                return cache, chunk
            at = np.int32(start + chunk * self._width)
            cache = programs.restore_chunk(cache, self.pages, np.int32(page), np.int32(slot), at)
        return cache, len(keys)

    def keep(self, cache: KVCache, key: bytes, slot: int, start: int) -> None:
        """Store the chunk at a slot's position ``start`` under ``key``, which must be new."""
        page = self._free.pop() if self._free else self._held.popitem(last=False)[1]
        self._held[key] = page
        self.pages = programs.keep_chunk(self.pages, cache, np.int32(slot), np.int32(start), np.int32(page))

    def use(self, keys: Sequence[bytes]) -> None:
        """Mark chunks as recently used. The first chunk is evicted last: the others are useless without it."""
        for key in reversed(keys):
            if key in self._held:
                self._held.move_to_end(key)
